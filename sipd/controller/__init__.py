"""Third-party call control: sipd brings two parties together that did not call each other (RFC 3725, RFC 3515)."""
