"""From a URI to an ordered list of hops (RFC 3263, RFC 2782)."""
