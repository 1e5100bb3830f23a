"""Sockets: UDP, TCP and TLS, and what the transport layer does to a message (RFC 3261 s18, RFC 3581)."""
