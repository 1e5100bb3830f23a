"""The transport layer: every listener and every flow of the server (RFC 3261 s18)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from zope.interface import implementer

from sipd.config_limits import Limits
from sipd.config_server import Listen
from sipd.flow import Flow
from sipd.interfaces import ITransports
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.errors import MalformedMessage
from sipd.message.hop import Hop, hop_text, join_host_port
from sipd.transport import addresses
from sipd.transport.connections import Connections, Done
from sipd.transport.flows import Receive, Watch, nobody, udp_flow_parts
from sipd.transport.leaving import Leaving
from sipd.transport.listener import WILDCARDS, Listener
from sipd.transport.stream import StreamConnection
from sipd.transport.stream_port import StreamPort
from sipd.transport.tls import CertificateError, ClientContexts, ServerContexts
from sipd.transport.udp import FLOWS, UdpFlow, UdpPort

#: Seconds between two looks at the host's addresses, where a wildcard listens.
REFRESH = 30.0
#: Seconds for which the kernel's choice of a local address is believed, and for how many peers.
ROUTE_LIFE = 60.0
ROUTES = 4096
#: Seconds until connections that do not close by themselves are cut when the server stops.
STOP_PATIENCE = 2.0


class ListenError(Exception):
    """Listeners could not be opened: one line each in the text."""


@implementer(ITransports)
class Transports:
    """Opens the listeners of the configuration and hands each message to `receive(data, flow)`, set before `start`.

    `reactor` does the input and output, `clock` (IReactorTime) the deadlines, `entropy(n)` gives random octets.
    `certificate` is the (certificate, key) pair of files for TLS listeners that name none. With `verify_servers` a TLS
    peer reached by name must prove it, to `trust_root` (None: what the system trusts).
    """

    def __init__(
        self, listen: Sequence[Listen], limits: Limits, *, reactor: Any, clock: Any, entropy: Callable[[int], bytes],
        journal: Journal, inventory: Inventory, certificate: tuple[str, str] | None = None,
        verify_servers: bool = True, trust_root: Any = None,
        local_addresses: Callable[[], list[str]] = addresses.local_addresses,
    ) -> None:
        self.listeners: list[Listener] = []
        self.receive: Receive = nobody
        self.changed: Callable[[], None] = _nothing
        #: The flows that transactions are on; set before `replace` is called.
        self.in_use: Callable[[], Iterable[Flow]] = tuple
        self._listen = listen
        self._reactor = reactor
        self._clock = clock
        self._journal = journal
        self._inventory = inventory
        self._local_addresses = local_addresses
        self._connections = Connections(
            reactor, clock, entropy, journal, inventory, limits,
            ClientContexts(verify_servers, trust_root))
        #: By listener name; a name that listens no more leaves its (empty) table behind for when it comes back.
        self._flow_tables: dict[str, Table[Any, UdpFlow]] = {}
        self._udp: dict[str, UdpPort] = {}
        self._streams: dict[str, StreamPort] = {}
        #: For each peer the UDP port to send from, and until when that is believed.
        self._routes: Table[str, tuple[UdpPort, float]] = inventory.table("udp routes", ROUTES, cache=True)
        #: The only UDP port of IPv4 and IPv6, where there is exactly one.
        self._only: list[UdpPort | None] = [None, None]
        self._contexts = ServerContexts(certificate)
        #: What could not be opened at the last look, so that it is said once.
        self._failing: dict[str, str] = {}
        self._timer: Any = None
        self._leaving = Leaving(clock, lambda: self.in_use(), inventory, limits.connections)
        self._watch: Watch | None = None

    # -- ITransports

    def flow_to(self, hop: Hop, listener: str = "") -> Flow | None:
        """See ITransports."""
        transport, address, number, _ = hop
        if transport != "udp":
            return self._connections.flow_to(hop)
        v6 = ":" in address
        port = self._udp.get(listener)
        if port is None or port.v6 is not v6 or (port.loopback and not addresses.is_loopback(address)):
            port = self._only[v6] or self._routed(address, v6)
            if port is None:
                return None
        flow = port.flows.get((address, number, 0, 0) if v6 else (address, number))
        if flow is not None:
            return flow
        canonical = addresses.canonical_address(address)
        return port.flow(canonical, number) if canonical and 0 < number < 65536 else None

    def flow_by_id(self, flow_id: str) -> Flow | None:
        """See ITransports."""
        parts = udp_flow_parts(flow_id)
        if parts is None:
            return self._connections.flow_by_id(flow_id)
        name, address, number = parts
        port = self._udp.get(name)
        address = addresses.canonical_address(address)
        if port is None or not address or port.v6 != (":" in address):
            return None
        return port.flow(address, number)

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel had no room for."""
        return sum(port.dropped for port in self._udp.values())

    @property
    def cut(self) -> dict[str, int]:
        """Connections ended because of what their peers did or did not do, by reason."""
        return self._connections.cut

    def lag(self) -> tuple[float, bool]:
        """How far reading is behind, in seconds, and whether there is little room for more datagrams."""
        wall = time.time()
        lags = [(self._connections.lag(), False), *[port.lag(wall) for port in self._udp.values()]]
        return max(lag[0] for lag in lags), any(lag[1] for lag in lags)

    @property
    def lost(self) -> int:
        """Datagrams that came faster than they were read."""
        return sum(port.lost for port in self._udp.values())

    def connect(self, hop: Hop, done: Done) -> None:
        """See ITransports."""
        if not addresses.canonical_address(hop.address) or not 0 < hop.port < 65536:
            self._clock.callLater(0, done, None, "not an address to connect to")
            return
        v6 = ":" in hop.address
        listeners = [port.listener for port in self._streams.values()
                     if port.listener.transport == hop.transport and (":" in port.listener.address) == v6]
        self._connections.connect(hop, listeners, done)

    @property
    def connections(self) -> list[StreamConnection]:
        """Every connection there is."""
        return list(self._connections.live.values())

    @property
    def certificates(self) -> dict[str, str]:
        """The files of the certificates that listeners show, each with a digest of what was read there."""
        return self._contexts.prints

    def show(self, watch: Watch | None) -> None:
        """Shows every message in and out to `watch` from now on; with None to nobody."""
        self._watch = self._connections.settings.watch = watch
        self._connections.settings.receive = self._receiver()
        for port in self._udp.values():
            port.watch, port.receive = watch, self._receiver()

    def _receiver(self) -> Receive:
        """What takes the messages that come in: where nobody watches, the next layer itself."""
        watch, receive = self._watch, self.receive
        if watch is None:
            return receive

        def watched(data: bytes, flow: Flow, lost: MalformedMessage | None = None) -> None:
            watch.received(data, flow)
            receive(data, flow, lost)

        return watched

    # -- life

    def start(self) -> None:
        """Opens everything. Raises ListenError, which names each listener that cannot be opened; none is open then."""
        self._connections.settings.receive = self.receive
        failures = self._open_all()
        if not self.listeners and not failures:
            failures.append("this host has no address of the families to listen on")
        if failures:
            for port in list(self._udp.values()):
                self._drop_udp(port)
            for stream in list(self._streams.values()):
                self._drop_stream(stream)
            raise ListenError("\n".join(failures))
        for listener in self.listeners:
            self._report("listener-up", listener)
        self._look_again()

    def replace(self, listen: Sequence[Listen], limits: Limits, certificate: tuple[str, str] | None) -> None:
        """Listens on `listen` from now on, within `limits`; certificates are read again. Raises ListenError, as `start`
        does; then everything is as it was.

        A socket that stays is never closed, whatever else about its listener changes. What is taken away ends
        gracefully: see `leaving`.
        """
        before = self._listen, self._contexts
        old = list(self.listeners)
        self._listen, self._contexts = listen, ServerContexts(certificate)
        failures = self._open_all()
        if failures or not self.listeners:
            self._listen, self._contexts = before
            for port in [port for port in self._udp.values() if port.listener not in old]:
                self._drop_udp(port)
            for stream in [stream for stream in self._streams.values() if stream.listener not in old]:
                self._drop_stream(stream)
            raise ListenError("\n".join(failures or ["this host has no address of the families to listen on"]))
        self._connections.bound(limits)
        wanted = {_socket(one.transport, address, one.port): one for one in listen for address in self._concrete(one)}
        for port in list(self._udp.values()):
            place = port.listener
            one = wanted.get(_socket("udp", place.address, place.port))
            if one is None:
                self._drop_udp(port, leave=True)
            elif Listener("udp", place.address, place.port, one.advertise).sent_by != place.sent_by:
                port.call_itself(one.advertise)
                self.listeners[self.listeners.index(place)] = port.listener
        for stream in list(self._streams.values()):
            place = stream.listener
            one = wanted.get(_socket(place.transport, place.address, place.port))
            if one is None:
                self._drop_stream(stream)
            else:
                self._renew(stream, one)
        self._leaving.connections(connection for connection in self._connections.live.values()
                                  if str(connection.flow.listener) not in self._streams)
        for listener in self.listeners:
            if listener not in old:
                self._report("listener-up", listener)
        for name in {str(listener) for listener in old} - {str(listener) for listener in self.listeners}:
            self._journal.write("listener-lost", listener=name, reason="the configuration names it no more")
        self._listeners_changed()
        self._look_again()

    def _look_again(self) -> None:
        """Where a wildcard listens, the host's addresses are looked at now and then."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if any(listen.address in WILDCARDS for listen in self._listen):
            self._timer = self._clock.callLater(REFRESH, self._refresh)

    def stop(self) -> Deferred[None]:
        """Closes everything; fires when all connections are gone."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for port in list(self._udp.values()):
            self._drop_udp(port)
        closing = [maybeDeferred(self._drop_stream, stream) for stream in list(self._streams.values())]
        self._leaving.stop()
        self._connections.close()
        done: Deferred[None] = Deferred()
        give_up_at = self._clock.seconds() + STOP_PATIENCE
        DeferredList(closing, consumeErrors=True).addCallback(lambda _: self._await_connections(done, give_up_at))
        return done

    # -- listeners

    def _open_all(self) -> list[str]:
        """Opens what is not open yet of all that is to be; why that failed, a line each. Reads every certificate."""
        failures: list[str] = []
        for listen in self._listen:
            if listen.transport == "tls":
                try:
                    self._contexts.of(listen)
                except CertificateError as error:
                    failures.append(f"{listen}: {error}")
                    continue
            for address in self._concrete(listen):
                name = _name(listen, address)
                if self._socket_is_open(listen, address):
                    continue
                why = self._open(listen, address)
                if listen.address in WILDCARDS and why == os.strerror(errno.EADDRNOTAVAIL).lower():
                    # an address that is coming up or going away: the next look at the addresses will tell
                    self._failing[name] = why
                elif why:
                    failures.append(f"{name}: {why}")
        return failures

    def _socket_is_open(self, listen: Listen, address: str) -> bool:
        if listen.transport == "udp":
            return join_host_port(address, listen.port) in self._udp
        place = join_host_port(address, listen.port)
        return f"tcp:{place}" in self._streams or f"tls:{place}" in self._streams

    def _open(self, listen: Listen, address: str) -> str:
        """Opens one concrete listener; why it failed, "" when it did not."""
        try:
            if listen.transport == "udp":
                udp = self._leaving.take_back(join_host_port(address, listen.port))
                if udp is not None:
                    udp.call_itself(listen.advertise)
                else:
                    udp = UdpPort(address, listen.port, listen.advertise, self._reactor, self.receive, self._journal,
                                  self._flow_table)
                udp.watch, udp.receive = self._watch, self._receiver()
                self._udp[udp.listener.name] = udp
                listener = udp.listener
            else:
                stream = StreamPort(listen, address, self._reactor, self._clock, self._connections.accept,
                                    self._contexts)
                self._streams[str(stream.listener)] = stream
                listener = stream.listener
        except CannotListenError as error:
            return _os_reason(error.socketError)
        except (OSError, OverflowError) as error:
            return _os_reason(error)
        except CertificateError as error:
            return str(error)
        self.listeners.append(listener)
        self._listeners_changed()
        return ""

    def _report(self, kind: str, listener: Listener) -> None:
        if self._journal.sinks:
            self._journal.write(kind, listener=str(listener))

    def _renew(self, stream: StreamPort, listen: Listen) -> None:
        """A listening socket goes on as what `listen` says; new connections have the certificate read last."""
        old = stream.listener
        stream.renew(listen, self._contexts)
        if stream.listener is not old:
            del self._streams[str(old)]
            self._streams[str(stream.listener)] = stream
            self.listeners[self.listeners.index(old)] = stream.listener

    def _drop_udp(self, port: UdpPort, leave: bool = False) -> None:
        """Stops listening; with `leave` what has begun ends first."""
        if leave:
            self._leaving.port(port, self.receive)
        else:
            port.close()
        del self._udp[port.listener.name]
        self.listeners.remove(port.listener)
        self._listeners_changed()

    def _drop_stream(self, stream: StreamPort) -> Any:
        """Stops accepting; connections live on."""
        del self._streams[str(stream.listener)]
        self.listeners.remove(stream.listener)
        self._listeners_changed()
        return stream.port.stopListening()

    def _listeners_changed(self) -> None:
        """What follows from the set of listeners is worked out once."""
        self._routes.clear()
        for v6 in (False, True):
            ports = [port for port in self._udp.values() if port.v6 is v6]
            self._only[v6] = ports[0] if len(ports) == 1 else None
        self.changed()

    def _refresh(self) -> None:
        """Looks for addresses that came or went (TRN-19)."""
        self._timer = self._clock.callLater(REFRESH, self._refresh)
        self._routes.clear()
        present = set(self._local_addresses())
        wild = [listen for listen in self._listen if listen.address in WILDCARDS]
        for listen in wild:
            for address in self._concrete(listen):
                name = _name(listen, address)
                if name not in {str(listener) for listener in self.listeners}:
                    why = self._open(listen, address)
                    if why and self._failing.get(name) != why and self._journal.sinks:
                        self._journal.write("listener-lost", listener=name, reason=why)
                    if why:
                        self._failing[name] = why
                    else:
                        self._failing.pop(name, None)
                        self._report("listener-up", self.listeners[-1])
        fixed = {(listen.transport, listen.address, listen.port) for listen in self._listen}
        for listener in list(self.listeners):
            if listener.address in present or (listener.transport, listener.address, listener.port) in fixed:
                continue
            if listener.transport == "udp":
                self._drop_udp(self._udp[join_host_port(listener.address, listener.port)])
            else:
                self._drop_stream(self._streams[str(listener)])
            if self._journal.sinks:
                self._journal.write("listener-lost", listener=str(listener), reason="the address is gone")
        self._failing = {name: why for name, why in self._failing.items()
                         if name in {_name(listen, address) for listen in wild for address in present}}

    def _concrete(self, listen: Listen) -> list[str]:
        """The addresses a listener stands for; none that another `[[listen]]` names is meant by a wildcard."""
        if listen.address not in WILDCARDS:
            return [listen.address]
        v6 = ":" in listen.address
        named = {other.address for other in self._listen
                 if other.port == listen.port and (other.transport == "udp") == (listen.transport == "udp")}
        return [address for address in self._local_addresses() if (":" in address) == v6 and address not in named]

    def _flow_table(self, listener: Listener) -> Table[Any, UdpFlow]:
        table = self._flow_tables.get(listener.name)
        if table is None:
            table = self._inventory.table(f"udp flows of {listener.name}", FLOWS, cache=True)
            self._flow_tables[listener.name] = table
        return table

    def _routed(self, address: str, v6: bool) -> UdpPort | None:
        """The UDP port from which the kernel would send to that address; None when no port is of that family."""
        known = self._routes.get(address)
        now = self._clock.seconds()
        if known is not None and known[1] > now:
            return known[0]
        ports = [port for port in self._udp.values() if port.v6 is v6]
        if not ports:
            return None
        canonical = addresses.canonical_address(address)
        source = addresses.source_address(canonical) if canonical else ""
        loopback = addresses.is_loopback(address)
        # without a route, or where nobody listens on its source: one that could at least send there
        ports.sort(key=lambda port: (port.listener.address != source, port.loopback is not loopback))
        self._routes.remember(address, (ports[0], now + ROUTE_LIFE))
        return ports[0]

    def _await_connections(self, done: Deferred[None], give_up_at: float) -> None:
        """Looks a few times whether all connections are gone, and cuts those that are not in the end."""
        left = list(self._connections.live.values())
        if not left:
            done.callback(None)
            return
        if self._clock.seconds() >= give_up_at:
            for connection in left:
                connection.abort("the server stops")
        self._clock.callLater(0.05, self._await_connections, done, give_up_at)


def _nothing() -> None:
    """Nobody asked to be told."""


def _socket(transport: str, address: str, port: int) -> tuple[bool, str, int]:
    """What only one listener can have: TLS runs over TCP."""
    return transport == "udp", address, port


def _name(listen: Listen, address: str) -> str:
    return hop_text(listen.transport, address, listen.port)


def _os_reason(error: Exception) -> str:
    """What the system said, in its words."""
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else str(error)
