"""Subscriptions and event state: notifier, event state compositor and the packages they serve (RFC 6665, RFC 3903)."""
