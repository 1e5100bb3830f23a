"""Where calls go by the configuration: routes, groups, forwards, and a script of the person who runs this."""
