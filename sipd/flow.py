"""A way to one peer: a connection, or a UDP socket with a remote address (RFC 5626 s1).

A class to inherit from and no zope Interface, since each message reads its attributes some twenty times: where both are
compiled, that is a look into a C structure instead of a look-up by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipd.compiling import mypyc_attr
from sipd.message.hop import hop_text

if TYPE_CHECKING:
    from collections.abc import MutableSet

    from sipd.interfaces import IFlowUser
    from sipd.transport.listener import Listener


# flows of streams, and those of tests, are not compiled
@mypyc_attr(allow_interpreted_subclasses=True)
class Flow:
    """What every transport's flows have; each has its own `send`."""

    __slots__ = ("id", "listener", "transport", "reliable", "address", "port", "users", "alive", "known", "noted")

    #: Names this flow; never used again for another connection, not by a later process either.
    id: str
    #: The local side.
    listener: Listener
    #: "udp", "tcp" or "tls".
    transport: str
    #: No timer need repeat what is sent here (RFC 3261 s17).
    reliable: bool
    #: The peer's numeric address, IPv6 without brackets, and its port.
    address: str
    port: int
    #: Told once, then forgotten, when the flow fails; they come and go.
    users: MutableSet[IFlowUser]
    #: False once the connection is gone; a UDP flow is always alive.
    alive: bool
    #: Something that came over it has passed the checks.
    known: bool
    #: What is written behind a bare rport in the Vias of all that comes over it: the source, as RFC 3581 s4 notes it.
    noted: str

    def __init__(self, flow_id: str, listener: Listener, transport: str, address: str, port: int) -> None:
        self.id = flow_id
        self.listener = listener
        self.transport = transport
        self.reliable = transport != "udp"
        self.address = address
        self.port = port
        self.users = set()
        self.alive = True
        self.known = False
        self.noted = f"={port};received={address}"

    def __str__(self) -> str:
        """The peer as people read it: `tcp:192.0.2.1:40000`."""
        return hop_text(self.transport, self.address, self.port)

    def send(self, data: bytes) -> None:
        """Sends one message. Never raises: a failure reaches `users` later, from a fresh call stack."""
        raise NotImplementedError

    def client_names(self) -> tuple[str, ...]:
        """The names that the certificate of a TLS client proves (RFC 5922), in lower case."""
        return ()
