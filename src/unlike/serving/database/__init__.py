"""The history in a database: SQLite beside the detectors, or PostgreSQL by its address."""
