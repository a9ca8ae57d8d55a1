"""Where results go: a file of rows, another program by webhook, a broker by MQTT, or a sink of another package."""
