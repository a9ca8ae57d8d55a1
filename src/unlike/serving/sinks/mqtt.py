"""Results to an MQTT broker: published once it is there, and kept until it has said that it has them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from unlike.errors import ConfigError
from unlike.serving.sinks.base import Delivery, Fate, Message, read_secret

RECEIPT_SECONDS = 10.0  # that is waited for the broker to say that it has them
CONNECT_SECONDS = 2.0
LONGEST_WAIT = 30  # seconds between two tries to connect
SPECIAL = str.maketrans({"+": "_", "#": "_", "/": "_", "\0": "_"})  # letters that mean something in a topic


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """Which broker, and what messages are called there."""

    host: str
    port: int = 1883
    topic: str = "unlike/{detector}"  # {detector} is its name
    status_topic: str = "unlike/status"  # "online", and "offline" when the connection is lost; empty: none
    qos: int = 1  # 1: at least once, 2: once, as far as the broker goes
    username: str = ""
    password_file: str = ""
    tls: bool = False
    ca_file: str = ""  # of the broker's certificate; empty: those of this machine
    client_id: str = ""  # empty: one that the broker gives

    def __post_init__(self) -> None:
        if self.qos not in (1, 2):
            raise ConfigError(f"qos: expected 1 or 2, came {self.qos}; at 0 nobody knows what arrived")
        if not self.host or not 0 < self.port < 65536:
            raise ConfigError(f"expected the host and the port of a broker, came {self.host!r} and {self.port}")
        if any(letter in self.topic for letter in "+#\0") or not self.topic:
            raise ConfigError(
                f"topic: expected a topic without + and #, such as unlike/{{detector}}, came {self.topic!r}"
            )


class MqttSink:
    """One JSON object an image, by a client that connects again whenever the broker is back."""

    Config = MqttConfig

    def __init__(self, config: MqttConfig) -> None:
        self.config = config
        self._connected = threading.Event()
        self._why = "not yet connected"
        self._under_way: dict[int, paho.MQTTMessageInfo] = {}  # what the client still holds: not to be published again
        self._client = self._make_client()
        self._client.connect_async(config.host, config.port)
        self._client.loop_start()

    def send(self, messages: Sequence[Message]) -> list[Delivery]:
        """Publish all, then wait for the receipts."""
        if not self._connected.wait(CONNECT_SECONDS):
            return [self._absent()] * len(messages)
        for message in messages:
            if message.id not in self._under_way:
                self._under_way[message.id] = self._publish(message)
        until = time.monotonic() + RECEIPT_SECONDS
        return [self._receipt(message, until) for message in messages]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _make_client(self) -> paho.Client:
        config = self.config
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=config.client_id)
        if config.username:
            password = read_secret(config.password_file, "password_file") if config.password_file else None
            client.username_pw_set(config.username, password)
        if config.tls or config.ca_file:
            try:
                client.tls_set(config.ca_file or None)
            except OSError as error:
                raise ConfigError(f"ca_file: {config.ca_file} cannot be read ({error.strerror})") from None
        if config.status_topic:
            client.will_set(config.status_topic, "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, LONGEST_WAIT)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        return client

    def _publish(self, message: Message) -> paho.MQTTMessageInfo:
        name = str(message.payload.get("detector", "")).translate(SPECIAL)
        topic = self.config.topic.replace("{detector}", name)
        body = json.dumps({**message.payload, "delivery": message.id}, ensure_ascii=False)
        return self._client.publish(topic, body.encode(), qos=self.config.qos)

    def _receipt(self, message: Message, until: float) -> Delivery:
        info = self._under_way[message.id]
        while not info.is_published() and self._connected.is_set() and time.monotonic() < until:
            time.sleep(0.005)
        if not info.is_published():
            return self._absent()
        del self._under_way[message.id]
        return Delivery(Fate.SENT)

    def _absent(self) -> Delivery:
        why = "no receipt yet" if self._connected.is_set() else self._why
        return Delivery(Fate.AWAY, f"MQTT broker {self.config.host}:{self.config.port}: {why}")

    def _on_connect(self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        del data, flags, properties
        if reason.is_failure:
            self._why = f"refuses the connection ({reason})"
            return
        if self.config.status_topic:
            client.publish(self.config.status_topic, "online", qos=1, retain=True)
        self._connected.set()

    def _on_disconnect(self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        del client, data, flags, properties
        if self._connected.is_set():
            self._why = f"the connection is lost ({reason})"
        self._connected.clear()

    def _on_connect_fail(self, client: paho.Client, data: Any) -> None:
        del client, data
        self._why = "cannot be reached"
