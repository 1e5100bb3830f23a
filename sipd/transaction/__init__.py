"""Four pure transaction machines and the layer that drives them (RFC 3261 s17, RFC 6026, RFC 4320)."""
