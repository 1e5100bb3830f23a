"""Picks the core that serves a request, and serves those addressed to this server."""
