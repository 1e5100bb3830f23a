"""The location service: an authoritative table in memory and a durable store behind it."""
