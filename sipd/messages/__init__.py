"""Text messages for those who are not there: kept durably, delivered when their phone registers (RFC 3428)."""
