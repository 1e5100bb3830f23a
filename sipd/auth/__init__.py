"""Digest authentication and the users it knows (RFC 3261 s22, RFC 7616, RFC 8760)."""
