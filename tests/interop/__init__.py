"""Real programs on real sockets: SIPp, baresip, and small clients of our own, all on 127.0.0.1."""
