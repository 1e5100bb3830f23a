"""Where carriers are that we do not register with, so that what comes from there is known as theirs.

A registration tells where its carrier is. The names of the others are looked up in the background, and again now and
then: the resolver asks the DNS only when what it knows is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Protocol

from sipd.config_trunks import Peer
from sipd.message.address import Address
from sipd.message.hop import Hop
from sipd.message.uri import Uri
from sipd.peers.policy import Policies
from sipd.wheel import Timer, TimerWheel

#: Seconds between two looks at all names.
EVERY = 30.0
#: Seconds for which a carrier is believed to be where it was, when its name leads nowhere any more.
REMEMBERED = 3600.0


class LookUp(Protocol):
    """Calls `use` once with the hops of a URI, in bounded time."""

    def __call__(self, uri: Uri, use: Callable[[list[Hop]], None]) -> None:
        """At once when no network has to be asked."""


class Whereabouts:
    """Tells `policies` where each carrier is that is known by its address."""

    def __init__(self, policies: Policies, look_up: LookUp, wheel: TimerWheel) -> None:
        self._policies = policies
        self._look_up = look_up
        self._wheel = wheel
        #: The URIs by which each carrier is reached, and when each was found last (seconds of the clock), with what.
        self._names: dict[str, tuple[Uri, ...]] = {}
        self._found: dict[tuple[str, Uri], tuple[float, frozenset[tuple[str, int]]]] = {}
        self._timer: Timer | None = None

    def configure(self, peers: Mapping[str, Peer]) -> None:
        """Looks for the carriers of a configuration whose policies hold already."""
        wanted = {}
        for name, policy in self._policies.trunks.items():
            peer = peers[name]
            if "address" in policy.identify_by and not peer.registers:
                wanted[name] = (peer.carrier, *((Address.parse(peer.route).uri,) if peer.route else ()))
        for name in self._names.keys() - wanted.keys():
            if not (name in peers and peers[name].registers):
                self._policies.found_at(name, ())
        self._names = wanted
        self._found = {key: found for key, found in self._found.items() if key[1] in wanted.get(key[0], ())}
        for name in wanted:
            self._tell(name)
        self.stop()
        if wanted:
            self._look(None)

    def stop(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, nothing: None) -> None:
        self._timer = self._wheel.start(EVERY, self._look, None)
        for name, uris in list(self._names.items()):
            for uri in uris:
                self._look_up(uri, partial(self._located, name, uri))

    def _located(self, name: str, uri: Uri, hops: list[Hop]) -> None:
        if uri not in self._names.get(name, ()):
            return
        now, known = self._wheel.now, self._found
        if hops:
            known[name, uri] = now, frozenset((str(ip_address(hop.address)), hop.port) for hop in hops)
        elif (name, uri) in known and known[name, uri][0] + REMEMBERED <= now:
            del known[name, uri]
        self._tell(name)

    def _tell(self, name: str) -> None:
        found = self._found
        self._policies.found_at(name, [
            place for uri in self._names[name] if (name, uri) in found for place in found[name, uri][1]])
