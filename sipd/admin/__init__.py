"""The JSON API on a Unix socket and sipctl, the command line client that speaks it."""
