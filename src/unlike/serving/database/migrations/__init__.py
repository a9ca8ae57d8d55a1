"""How the tables came to be, step by step (Alembic): what an older version left is brought to this one when the service starts."""
