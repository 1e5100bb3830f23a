"""SIP messages and the values in them: pure, no socket, clock or dice (RFC 3261 s7, s19, s20, s25)."""
