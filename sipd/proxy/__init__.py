"""The forking stateful proxy (RFC 3261 s16, RFC 5393, RFC 3326)."""
