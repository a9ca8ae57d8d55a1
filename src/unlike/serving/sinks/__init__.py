"""Where results go: a file of rows, another program by webhook, a broker by MQTT, or a sink of another package."""

from __future__ import annotations

from unlike.registry import Registry
from unlike.serving.sinks.base import Delivery, Fate, Message, Sink

__all__ = ["SINKS", "Delivery", "Fate", "Message", "Sink"]

SINKS: Registry[type[Sink]] = Registry(
    "sink",
    "unlike.sinks",
    {"webhook": "unlike.serving.sinks.webhook:Webhook", "mqtt": "unlike.serving.sinks.mqtt:MqttSink"},
)
