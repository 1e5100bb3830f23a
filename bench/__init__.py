"""Load scenarios and the runner that measures sipd and Kamailio side by side, in one run, on the same calls."""
