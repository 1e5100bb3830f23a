"""Where a configuration comes from, so that it can be read again, and where each of its values comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr

from sipd.config import Config, Overrides, load
from sipd.config_dress import DressKeys
from sipd.config_events import NotifyTemplate, Rule
from sipd.config_peers import merged
from sipd.config_routing import To
from sipd.config_text import option_name
from sipd.config_trunks import Peer


@dataclass(frozen=True, slots=True)
class Source:
    """A file ("" for none) and the options over it. Read again it gives what a start with them would have given."""

    path: str = ""
    overrides: Overrides = Overrides()

    def absolute(self) -> Source:
        """The same with absolute paths: a daemon changes its directory."""
        directory = self.overrides.state_dir
        return Source(
            os.path.abspath(self.path) if self.path else "",
            replace(self.overrides, state_dir=os.path.abspath(os.path.expanduser(directory)) if directory else ""))

    def load(self) -> Config:
        """The configuration as it is now. Raises ConfigError with every mistake."""
        return load(self.path or None, self.overrides)


class Setting(NamedTuple):
    """One value of the merged configuration, as text, and where it comes from."""

    section: str
    key: str
    value: str
    source: str


def settings(config: Config, source: Source) -> list[Setting]:
    """Every value of a configuration that came from `source`, in the order of the sections. No secret is among them."""
    return list(_of_config(config, source))


def _of_config(config: Config, source: Source) -> Iterator[Setting]:
    over = source.overrides
    options = {
        ("server", "domains"): _options("--domain", over.domains),
        ("server", "state_dir"): _options("--state-dir", (over.state_dir,) if over.state_dir else ()),
    }
    for section in Config.model_fields:
        value = getattr(config, section)
        given = section in config.model_fields_set
        if section == "listen":
            origin = _options("--listen", over.listen) or ("file" if given else "default")
            for number, listen in enumerate(value):
                keys = ("advertise", "certificate", "private_key", "client_ca")
                more = [f"{key} {text}" for key, text in _texts(listen, keys)]
                yield Setting("listen", str(number + 1), ", ".join([str(listen), *more]), origin)
        elif section == "routes":
            for number, route in enumerate(value):
                shown = ", ".join(f"{key} {text}" for key, text in _texts(route, tuple(route.model_fields_set)))
                yield Setting("routes", str(number + 1), shown, "file")
        elif isinstance(value, BaseModel):
            for key in type(value).model_fields:
                origin = "file" if given and key in value.model_fields_set else "default"
                yield Setting(section, key, text_of(getattr(value, key)), options.get((section, key)) or origin)
        else:
            for name, entry in value.items():
                named = [option for option in over.users if section == "users" and option.partition(":")[0] == name]
                shown = ", ".join(f"{key} {text}" for key, text in _texts(entry, tuple(entry.model_fields_set)))
                yield Setting(section, name, shown, f"option --user {name}:..." if named else "file")


def peer_settings(config: Config, name: str) -> list[Setting]:
    """What holds for a peer, merged from its section, the templates that it extends, and the defaults; a user need not
    have a section. Of a carrier also how calls to it look."""
    peer = config.peers.get(name) or Peer()
    found = [Setting(name, key, text_of(one.value), one.origin)
             for key, one in merged(name, peer, config.templates).items()]
    if peer.uri:
        found += [Setting(name, key, text_of(getattr(peer, key)),
                          f"[peers.{name}]" if key in peer.model_fields_set else "default")
                  for key in ("from_domain", *DressKeys.model_fields)]
    return found


def _options(name: str, values: tuple[str, ...]) -> str:
    return "option " + " ".join(f"{name} {value}" for value in values) if values else ""


def _texts(value: BaseModel, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Those of `keys` that say something, in the order in which the section has them."""
    for key in type(value).model_fields:
        text = text_of(getattr(value, key))
        if key in keys and text not in ('""', "[]", "none"):
            yield option_name(type(value), key), text


def text_of(value: Any) -> str:
    """A value as the file has it, a secret as dots."""
    if isinstance(value, SecretStr):
        return "..."
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, To):
        return text_of(value.peer) if value.model_fields_set <= {"peer"} else text_of(value.model_dump())
    if isinstance(value, (Rule, NotifyTemplate)):
        return text_of({key: getattr(value, key) for key in type(value).model_fields if key in value.model_fields_set})
    if isinstance(value, (tuple, list, frozenset, set)):
        return "[" + ", ".join(text_of(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {text_of(one)}" for key, one in value.items()) + "}"
    return str(value)
