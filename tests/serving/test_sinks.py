"""Results go out signed, at least once, and none is lost while whoever receives them is away."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from receivers import receiving, wait_until

from unlike.errors import ConfigError, ServiceError
from unlike.serving.connections import Connections, SinkChoice, open_sink, read_connections
from unlike.serving.database.engine import open_database
from unlike.serving.database.tables import Outbox
from unlike.serving.sinks import outbox
from unlike.serving.sinks.base import Delivery, Fate, Message
from unlike.serving.sinks.mqtt import MqttConfig, MqttSink
from unlike.serving.sinks.webhook import Webhook, WebhookConfig, check_url, verify_signature

SECRET = "the secret of line three"
ROW = {"id": "7f", "detector": "cells", "version": 1, "score": 2.5, "anomalous": True, "error": None}
BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@pytest.fixture
def database(tmp_path):
    found = open_database(f"sqlite:///{tmp_path / 'history.sqlite'}")
    yield found
    found.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits of a service, shortened."""
    for name, value in {"POLL_SECONDS": 0.01, "AWAY_WAIT": 0.05, "LONGEST_AWAY": 0.1, "FIRST_WAIT": 0.02}.items():
        monkeypatch.setattr(outbox, name, value)


def put(database, count=1, sink="mes", **changes):
    with database.sessions.begin() as session:
        for number in range(count):
            session.add(Outbox(sink=sink, payload={**ROW, "number": number, **changes}))


def messages(database):
    with database.readers() as session:
        return [(one.state, one.tries, one.last_error) for one in session.query(Outbox).order_by(Outbox.id)]


def webhook(tmp_path, port, **changes):
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    settings = {"url": f"http://127.0.0.1:{port}/hook", "secret_file": str(tmp_path / "secret"), **changes}
    return SinkChoice("mes", "webhook", settings=settings)


@contextmanager
def dispatching(database, *choices):
    dispatcher = outbox.Dispatcher(database, choices)
    dispatcher.start()
    try:
        yield
    finally:
        dispatcher.stop()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_rows_are_put_into_the_outbox_for_each_sink_that_wants_them(database):
    sinks = [
        SinkChoice("a", "mqtt"),
        SinkChoice("b", "mqtt", "anomalous"),
        SinkChoice("c", "mqtt", detectors=("other",)),
    ]
    with database.sessions.begin() as session:
        assert outbox.enqueue(session, sinks, [ROW, {**ROW, "anomalous": False}, {**ROW, "detector": "other"}]) == 6
    with database.readers() as session:
        assert outbox.count(session) == {("a", "waiting"): 3, ("b", "waiting"): 2, ("c", "waiting"): 1}


def test_messages_are_there_if_and_only_if_their_results_are(database):
    with suppress(RuntimeError), database.sessions.begin() as session:
        outbox.enqueue(session, [SinkChoice("a", "mqtt")], [ROW])
        raise RuntimeError("the disk is full")
    assert messages(database) == []


def test_a_webhook_is_signed_and_says_which_message_it_is(database, tmp_path):
    put(database)
    with receiving() as server, dispatching(database, webhook(tmp_path, server.server_port)):
        wait_until(lambda: messages(database) == [("sent", 1, "")])
    (headers, body) = server.had[0]
    assert json.loads(body)["score"] == 2.5
    assert headers["Unlike-Delivery"] == "1"
    stamp, signature = headers["Unlike-Timestamp"], headers["Unlike-Signature"]
    assert verify_signature(SECRET, stamp, body, signature)
    assert not verify_signature(SECRET, stamp, body + b" ", signature)
    assert not verify_signature("another secret of the line", stamp, body, signature)
    assert not verify_signature(SECRET, str(int(stamp) + 1), body, signature)
    assert not verify_signature(SECRET, "no time", body, signature)
    assert not verify_signature(SECRET, stamp, body, signature, tolerance_seconds=-1)


def test_a_webhook_that_fails_is_tried_again_later_each_time(database, tmp_path):
    put(database)
    with receiving() as server:
        server.answers += [500, 302, 429]
        with dispatching(database, webhook(tmp_path, server.server_port)):
            wait_until(lambda: messages(database)[0][0] == "sent")
    assert messages(database) == [("sent", 4, "")]
    assert [headers["Unlike-Delivery"] for headers, _ in server.had] == ["1"] * 4  # and no redirect was followed


def test_waits_grow_and_end(monkeypatch):
    monkeypatch.undo()
    waits = [(outbox._next_try(tries) - outbox.now()).total_seconds() for tries in range(outbox.TRIES)]
    assert 3 < waits[0] < 7
    assert 3600 * 0.79 < waits[20] < 3600 * 1.21
    assert 16 * 3600 < sum(waits) < 30 * 3600


def test_what_is_refused_or_fails_too_often_is_a_dead_letter_that_can_be_sent_again(database, tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "TRIES", 2)
    put(database, 2)
    with receiving() as server:
        server.answers += [422, 500, 500]
        with dispatching(database, webhook(tmp_path, server.server_port)):
            wait_until(lambda: [state for state, _, _ in messages(database)] == ["dead", "dead"])
            assert "answered 422" in messages(database)[0][2]
            assert messages(database)[1][1] == 2
            with database.sessions.begin() as session:
                assert outbox.retry(session) == 2
            wait_until(lambda: [state for state, _, _ in messages(database)] == ["sent", "sent"])


def test_dead_letters_are_sent_again_or_given_up_one_by_one(database):
    put(database, 3)
    with database.sessions.begin() as session:
        session.query(Outbox).filter(Outbox.id < 3).update({"state": "dead"})
        assert outbox.retry(session, 1) == 1
        outbox.drop(session, 2)
    assert [state for state, _, _ in messages(database)] == ["waiting", "waiting"]
    with database.sessions.begin() as session:
        for refused in (outbox.retry, outbox.drop):
            with pytest.raises(ServiceError, match="there is no dead letter of that number") as caught:
                refused(session, 3)
            assert caught.value.status == 404


def test_nothing_is_lost_while_a_receiver_is_away(database, tmp_path):
    put(database, 3)
    port = free_port()
    with dispatching(database, webhook(tmp_path, port)):
        wait_until(lambda: "no answer from 127.0.0.1" in messages(database)[0][2])
        with receiving(port) as server:
            wait_until(lambda: {state for state, _, _ in messages(database)} == {"sent"})
    assert sorted(json.loads(body)["number"] for _, body in server.had) == [0, 1, 2]


def test_a_message_is_one_servers_to_send(database):
    put(database, 3)
    with database.sessions.begin() as session:
        first = outbox.claim(session, "mes", 2)
    with database.sessions.begin() as session:
        second = outbox.claim(session, "mes", 2)
    assert [message.id for message, _ in first] == [1, 2]
    assert [message.id for message, _ in second] == [3]


def test_what_was_sent_long_ago_is_forgotten(database):
    put(database, 2)
    with database.sessions.begin() as session:
        session.query(Outbox).filter_by(id=1).update({"state": "sent", "next_at": outbox.now() - 2 * outbox.KEPT})
        session.query(Outbox).filter_by(id=2).update({"state": "dead", "next_at": outbox.now() - 2 * outbox.KEPT})
    courier = outbox._Courier(database, "mes", None)
    assert courier.carry() is False
    assert [state for state, _, _ in messages(database)] == ["dead"]


def test_a_sink_that_breaks_keeps_its_messages(database):
    class Broken:
        def send(self, some):
            raise ZeroDivisionError("a fault of somebody else")

    put(database)
    courier = outbox._Courier(database, "mes", Broken())
    assert courier.carry() is True
    assert messages(database) == [("waiting", 1, "ZeroDivisionError: a fault of somebody else")]


def test_a_sink_where_nobody_is_keeps_its_messages_for_ever(database):
    class Away:
        def send(self, some):
            return [Delivery(Fate.AWAY, "no broker")] * len(some)

    put(database)
    with database.sessions.begin() as session:
        session.query(Outbox).update({"tries": outbox.TRIES + 5})
    courier = outbox._Courier(database, "mes", Away())
    assert courier.carry() is True
    assert messages(database) == [("waiting", outbox.TRIES + 5, "no broker")]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://mes/hook", "expected the address of a webhook"),
        ("mes.example", "expected the address of a webhook"),
        ("https://ann:secret@mes.example/hook", "a password in an address would be shown"),
        ("http://169.254.169.254/latest/meta-data", "is no address of another program"),
        ("http://[fe80::1]/", "is no address of another program"),
        ("http://0.0.0.0/", "is no address of another program"),
    ],
)
def test_addresses_that_are_none_are_refused(url, words):
    with pytest.raises(ConfigError, match=words) as caught:
        check_url(url)
    assert "secret@" not in str(caught.value)


def test_a_webhook_without_a_secret_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("UNLIKE_WEBHOOK_SECRET", raising=False)
    with pytest.raises(ConfigError, match="signed by a secret of at least 16 characters, came 0; give secret_file"):
        Webhook(WebhookConfig("http://mes.example/"))
    monkeypatch.setenv("UNLIKE_WEBHOOK_SECRET", SECRET)
    Webhook(WebhookConfig("http://mes.example/")).close()
    with pytest.raises(ConfigError, match=r"none cannot be read .*; expected a file that holds the secret"):
        Webhook(WebhookConfig("http://mes.example/", secret_file=str(tmp_path / "none")))
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="empty is empty; expected a file that holds the secret"):
        Webhook(WebhookConfig("http://mes.example/", secret_file=str(tmp_path / "empty")))


# ---- MQTT, by the broker that Debian has


class Broker:
    """mosquitto on a free port of this machine, which can be stopped and started again."""

    def __init__(self, folder, port, *, anonymous="true"):
        self.port, self._process = port, None
        self._config = folder / "mosquitto.conf"
        kept = (
            f"user root\npersistence true\npersistence_location {folder}/\n"  # whoever listens is known after a restart
        )
        self._config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous {anonymous}\n{kept}")
        self.start()

    def start(self):
        self._process = subprocess.Popen(
            [BROKER, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._answers)

    def stop(self):
        self._process.terminate()
        self._process.wait(10)

    def _answers(self):
        with socket.socket() as found:
            return found.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def broker(tmp_path):
    if BROKER is None:
        pytest.skip("mosquitto is not installed here (Debian: apt install mosquitto)")
    found = Broker(tmp_path, free_port())
    yield found
    found.stop()


@contextmanager
def listening(port):
    """What arrives at a broker, as (topic, content)."""
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    had, ready = [], threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
    client.on_message = lambda client, data, message: had.append((message.topic, message.payload.decode()))
    client.on_subscribe = lambda *some: ready.set()
    client.on_connect = lambda client, *some: client.subscribe("#", qos=1)
    client.reconnect_delay_set(1, 1)
    client.connect_async("127.0.0.1", port)
    client.loop_start()
    try:
        assert ready.wait(10)
        yield had
    finally:
        client.disconnect()
        client.loop_stop()


def mqtt(port, **settings):
    return SinkChoice("mes", "mqtt", settings={"host": "127.0.0.1", "port": port, **settings})


def test_results_are_published_as_json_and_lost_by_no_broker_that_goes_away(database, broker, monkeypatch):
    monkeypatch.setattr("unlike.serving.sinks.mqtt.LONGEST_WAIT", 1)
    put(database, 2, detector="line/3")
    with listening(broker.port) as had, dispatching(database, mqtt(broker.port)):
        wait_until(lambda: len(results(had)) == 2)
        assert had[0] == ("unlike/status", "online")
        topic, content = next(one for one in had if one[0] != "unlike/status")
        assert topic == "unlike/line_3"
        assert {**json.loads(content), "delivery": 1} == {**ROW, "detector": "line/3", "number": 0, "delivery": 1}
        broker.stop()
        put(database, 3, late=True)
        wait_until(lambda: "MQTT broker 127.0.0.1" in messages(database)[-1][2])
        broker.start()
        wait_until(lambda: {state for state, _, _ in messages(database)} == {"sent"})
        wait_until(lambda: len(results(had)) >= 5)
    assert [one["number"] for one in results(had) if one.get("late")] == [0, 1, 2]


def results(had):
    return [json.loads(content) for topic, content in had if topic != "unlike/status"]


def test_that_a_broker_refuses_is_said(tmp_path):
    if BROKER is None:
        pytest.skip("mosquitto is not installed here (Debian: apt install mosquitto)")
    found = Broker(tmp_path, free_port(), anonymous="false")
    (tmp_path / "password").write_text("wrong")
    sink = MqttSink(MqttConfig("127.0.0.1", found.port, username="ann", password_file=str(tmp_path / "password")))
    try:
        wait_until(lambda: "refuses the connection" in sink.send([Message(1, ROW)])[0].error)
        assert sink.send([Message(1, ROW)])[0].fate is Fate.AWAY
    finally:
        sink.close()
        found.stop()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "h", "qos": 0}, "qos: expected 1 or 2, came 0; at 0 nobody knows what arrived"),
        ({"host": ""}, "expected the host and the port of a broker, came '' and 1883"),
        ({"host": "h", "topic": "a/#"}, r"topic: expected a topic without \+ and #"),
    ],
)
def test_wrong_choices_of_a_broker_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        MqttConfig(**settings)


def test_a_certificate_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"ca_file: .*none cannot be read"):
        MqttSink(MqttConfig("h", ca_file=str(tmp_path / "none")))


# ---- what connections.toml says


def test_connections_are_read_from_a_file_and_from_flags(tmp_path):
    path = tmp_path / "connections.toml"
    path.write_text(
        '[[sources]]\ndetector = "cells"\nwhere = "/data/line3"\nmove_to = "/data/done"\n\n'
        '[[sinks]]\nkind = "webhook"\nname = "mes"\nurl = "https://mes.example/"\nsend = "anomalous"\ndetectors = ["cells"]\n'
    )
    found = read_connections(path, watch=["bottles=in"], mqtt="broker")
    assert [(one.detector, one.where, one.kind, one.settings) for one in found.sources] == [
        ("cells", "/data/line3", "folder", {"move_to": "/data/done"}),
        ("bottles", "in", "folder", {}),
    ]
    assert found.sinks == (
        SinkChoice("mes", "webhook", "anomalous", ("cells",), {"url": "https://mes.example/"}),
        SinkChoice("mqtt", "mqtt", settings={"host": "broker", "port": 1883}),
    )
    assert read_connections(None) == Connections()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sinks]\nkind = 'mqtt'", r"expected \[\[sinks\]\], with two brackets"),
        ("sources = 3", r"expected \[\[sources\]\], with two brackets"),
        ("[[sinc]]", r"expected \[\[sources\]\] and \[\[sinks\]\], came 'sinc'"),
        ("[[sinks]]\nname = 'a'", "sinks: expected kind = a word, came None"),
        ("[[sinks]]\nkind = 'mqt'", "unknown sink 'mqt'; did you mean 'mqtt'"),
        ("[[sinks]]\nkind = 'mqtt'", "sink 'mqtt': expected host of a mqtt"),
        ("[[sinks]]\nkind = 'mqtt'\nhost = 'h'\nprot = 3", "unknown setting 'mqtt.prot'; did you mean 'mqtt.port'"),
        ("[[sinks]]\nkind = 'mqtt'\nhost = 'h'\nsend = 'some'", "send: expected all or anomalous, came 'some'"),
        ("[[sinks]]\nkind = 'mqtt'\nhost = 'h'\ndetectors = 'a'", "detectors: expected a list of names, came 'a'"),
        ("[[sinks]]\nkind = 'mqtt'\nhost = 'h'\n" * 2, "two sinks are called 'mqtt'; give each a name of its own"),
        ("[[sources]]\ndetector = 'a'", "sources: expected where = a word, came None"),
        ("[[", "is not TOML"),
    ],
)
def test_a_file_of_connections_that_is_wrong_is_refused_in_a_sentence(tmp_path, text, words):
    (tmp_path / "connections.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_connections(tmp_path / "connections.toml")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"watch": ["cells"]}, "--watch: expected NAME=DIR, .* came 'cells'"),
        ({"mqtt": "broker:x"}, "--mqtt: expected HOST or HOST:PORT, came 'broker:x'"),
    ],
)
def test_flags_that_are_wrong_are_refused_in_a_sentence(flags, words):
    with pytest.raises(ConfigError, match=words):
        read_connections(None, **flags)


def test_a_sink_is_opened_as_it_was_chosen(tmp_path):
    sink = open_sink(webhook(tmp_path, 9, timeout_seconds=3.0))
    assert sink.config.timeout_seconds == 3.0
    sink.close()
    assert Path(sink.config.secret_file).exists()
