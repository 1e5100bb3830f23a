"""sipd: a SIP registrar, location service and forking stateful proxy (RFC 3261)."""

__version__ = "0.1.0"
