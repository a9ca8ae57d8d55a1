from unlike.serving.security import rate
from unlike.serving.security.rate import Rate, RateLimiter


def test_a_bucket_fills_with_time_and_never_beyond():
    now = [0.0]
    limiter = RateLimiter(Rate(3, 10.0), clock=lambda: now[0])
    assert [limiter.wait_seconds("ann") for _ in range(3)] == [0.0] * 3
    assert limiter.wait_seconds("ann") == 10.0
    assert limiter.wait_seconds("bob") == 0.0
    now[0] = 4.0
    assert limiter.wait_seconds("ann") == 6.0
    assert limiter.is_empty("ann")
    now[0] = 1_000.0
    assert [limiter.wait_seconds("ann") for _ in range(4)][2:] == [0.0, 10.0]


def test_a_right_password_fills_it_again():
    limiter = RateLimiter(Rate(1, 10.0), clock=lambda: 0.0)
    limiter.wait_seconds("ann")
    assert limiter.is_empty("ann")
    limiter.forget("ann")
    assert not limiter.is_empty("ann")


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(rate, "MOST_KEYS", 10)
    limiter = RateLimiter(Rate(1, 10.0), clock=lambda: 0.0)
    for number in range(100):
        limiter.wait_seconds(str(number))
    assert len(limiter._known) == 10
    assert limiter.is_empty("99")
    assert not limiter.is_empty("0")
