import pytest

from unlike.errors import ConfigError
from unlike.serving.security.passwords import check_password, hash_password, matches


def test_what_is_kept_is_argon2id_with_a_salt_of_its_own():
    one, other = hash_password("four words in a row"), hash_password("four words in a row")
    assert one.startswith("$argon2id$")
    assert one != other
    assert "four" not in one
    assert matches(one, "four words in a row")
    assert not matches(one, "four words in a Row")


def test_nobody_matches_nothing():
    assert not matches(None, "four words in a row")
    assert not matches("no digest", "four words in a row")
    assert not matches(hash_password("x" * 1_000), "x" * 5_000)


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("short", "at least 10 characters, came 5"),
        ("x" * 1_001, "at most 1,000 characters, came 1,001"),
        ("hello-Ann-2026", "neither the name nor"),
        ("aaaaaaaaaaaaa", "a few letters over and over"),
    ],
)
def test_what_is_easy_to_guess_is_refused(password, words):
    with pytest.raises(ConfigError, match=words):
        check_password(password, "ann")


def test_words_in_a_row_will_do():
    check_password("battery staple horse", "ann")
