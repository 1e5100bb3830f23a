"""The registrar's rules and the core that applies them (RFC 3261 s10, RFC 3327)."""
