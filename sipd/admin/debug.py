"""The live view of messages: what comes in and goes out, as text, to whoever asks on the control socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sipd.admin.api import Api, Live, Refused, text_argument
from sipd.binding import Binding
from sipd.flow import Flow
from sipd.inventory import Inventory, Table
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.hop import join_host_port
from sipd.message.message import Message
from sipd.message.parser import parse

#: Live views at a time.
VIEWS = 8


class _View(Live):
    """One live view."""

    def __init__(self, debug: Debug, aor: str, address: str, port: int) -> None:
        super().__init__({"peer": aor, "ip": address, "port": port})
        self._debug = debug
        self.aor = aor
        self.address = address
        self.port = port

    def begin(self, write: Callable[[Any], None], close: Callable[[], None]) -> None:
        self.write, self.close = write, close
        self._debug.enter(self)

    def end(self) -> None:
        self._debug.leave(self)


class Debug:
    """Shows messages. `show(watch)` asks the transports for every message, with None for none any more; `aor_of` gives
    the address-of-record in a URI, "" for none here; `peer(name)` that of a peer, or raises Refused."""

    def __init__(self, show: Callable[[Any], None], peer: Callable[[str], str], aor_of: Callable[[Any], str],
                 bindings: Callable[[str], list[Binding]], wall: Callable[[], float], inventory: Inventory) -> None:
        self._show = show
        self._peer = peer
        self._aor_of = aor_of
        self._bindings = bindings
        self._wall = wall
        self._views: Table[int, _View] = inventory.table("live views of messages", VIEWS)

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("debug", self.command)
        api.register("debug off", self.off)

    def command(self, request: dict[str, Any]) -> Live:
        """peer, ip: messages of that peer (from and to where it is registered, or with its name in From or To), of that
        address or `address:port`; without either all messages. A line follows for each message: `time` in seconds
        since the epoch, `direction` in or out, `transport`, `peer` and `listener` as address:port, `text`, and `lost`,
        how many were left out before it because they were not read fast enough."""
        peer, ip = text_argument(request, "peer", ""), text_argument(request, "ip", "")
        if len(self._views) >= VIEWS:
            self._views.refused += 1
            raise Refused(f"{VIEWS} live views are open; sip set debug off ends them")
        address, port = _place(ip)
        return _View(self, self._peer(peer) if peer else "", address, port)

    def off(self, request: dict[str, Any]) -> dict[str, int]:
        """Ends every live view, whoever has it."""
        views = list(self._views.values())
        for view in views:
            self.leave(view)
            view.close()
        return {"ended": len(views)}

    def enter(self, view: _View) -> None:
        """A view that begins."""
        self._views[id(view)] = view
        self._show(self)

    def leave(self, view: _View) -> None:
        """A view that ends."""
        self._views.pop(id(view), None)
        if not self._views:
            self._show(None)

    # --- what the transports call

    def received(self, data: bytes, flow: Flow) -> None:
        """See Watch."""
        self._see("in", data, flow)

    def sent(self, data: bytes, flow: Flow) -> None:
        """See Watch."""
        self._see("out", data, flow)

    def _see(self, direction: str, data: bytes, flow: Flow) -> None:
        if not data.strip(b"\r\n\0 "):
            return  # keeps a connection alive
        shown = None
        for view in list(self._views.values()):
            if not self._concerns(view, data, flow):
                continue
            if shown is None:
                shown = {"time": round(self._wall(), 6), "direction": direction, "transport": flow.transport,
                         "peer": join_host_port(flow.address, flow.port), "listener": flow.listener.name,
                         "text": data.decode("utf-8", "backslashreplace")}
            view.write(shown)

    def _concerns(self, view: _View, data: bytes, flow: Flow) -> bool:
        if view.address:
            return flow.address == view.address and view.port in (0, flow.port)
        if not view.aor:
            return True
        if any(one.flow == flow.id or (one.source is not None and one.source[1:3] == (flow.address, flow.port))
               for one in self._bindings(view.aor)):
            return True
        try:
            message = _read(data)
            return message is not None and any(
                self._aor_of(Address.parse(message.first[name]).uri) == view.aor for name in ("from", "to")
                if name in message.first)
        except MalformedMessage:
            return False


def _read(data: bytes) -> Message | None:
    """A message as far as it can be read."""
    try:
        return parse(data)
    except MalformedMessage as error:
        return error.message


def _place(ip: str) -> tuple[str, int]:
    """Address without brackets, and port, 0 for any."""
    if ip.count(":") == 1 or ip.startswith("["):
        host, _, port = ip.rpartition(":") if not ip.endswith("]") else (ip, "", "")
        if port and not (port.isascii() and port.isdigit() and len(port) <= 5):
            raise Refused(f"{ip}: an address, or address:port, is wanted")
        return host.strip("[]"), int(port or 0)
    return ip, 0
