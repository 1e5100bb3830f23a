"""Who may watch whom, and what they see: the rules of the configuration, and what holds without one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from sipd.config_events import BODIES, Events

#: What a watcher sees: everything, without who calls, nothing until somebody allows it, nothing.
WHOLE, PART, PENDING, REFUSE = "whole", "part", "pending", "refuse"
#: Packages whose state is private: only one's own, unless a rule says otherwise.
_PRIVATE = ("message-summary", "reg")


class Access:
    """The rules in effect. `aor(name)` gives the address-of-record of a user as the configuration names them."""

    def __init__(self, config: Events, aor: Callable[[str], str]) -> None:
        self._aor = aor
        self.configure(config)

    def configure(self, config: Events) -> None:
        """Other rules, for whoever asks from now on."""
        self._config = config
        self._rules = [(self._pattern(rule.watcher), self._pattern(rule.watches), frozenset(rule.packages), rule.sees)
                       for rule in config.rules]
        self._bodies: Mapping[str, str] = {self._aor(name): body for name, body in config.bodies.items()}
        self._publishers = {*config.publishers, *map(self._aor, config.publishers)}

    def _pattern(self, text: str) -> str:
        return text if text == "*" or "@" in text else self._aor(text)

    def verdict(self, watcher: str, entity: str, package: str) -> str:
        """What `watcher` sees of the state of `entity`: the first rule that fits both says it. Without one everybody
        sees their own state, and users of one domain each other's where `watch` says so, private packages apart."""
        if not watcher:
            return REFUSE
        if watcher == entity:
            return WHOLE
        for who, whom, packages, sees in self._rules:
            if (not packages or package in packages) and fnmatchcase(watcher, who) and fnmatchcase(entity, whom):
                return sees
        same = watcher.rpartition("@")[2] == entity.rpartition("@")[2]
        if same and self._config.watch == "domain" and package not in _PRIVATE:
            return WHOLE if self._config.callers else PART
        return self._config.otherwise

    def may_publish(self, sender: str, entity: str) -> bool:
        """One's own state, and whoever is a publisher everybody's."""
        return sender == entity and bool(sender) or sender in self._publishers

    def kind(self, watcher: str, package: str) -> str:
        """The type of presence that a watcher gets whatever it asks for, "" for none."""
        return BODIES.get(self._bodies.get(watcher, ""), "") if package == "presence" else ""
