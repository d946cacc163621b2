"""The yardstick: a client loop and a receiver with nothing around them; no database, no broker, no retry, no record."""
