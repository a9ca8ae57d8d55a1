"""The REST interface: one module a subject, each with a `router`."""
