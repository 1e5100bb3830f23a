"""What the flows of all transports share: their names, and how those who wait on one are told that it broke."""

from __future__ import annotations

import traceback
from typing import Protocol

from sipd.flow import Flow
from sipd.interfaces import IFlowUser
from sipd.journal import Journal
from sipd.message.errors import MalformedMessage
from sipd.message.hop import join_host_port


class Receive(Protocol):
    """Called once for each message that came in, and once with what was read of a message whose framing was lost."""

    def __call__(self, data: bytes, flow: Flow, lost: MalformedMessage | None = None) -> None:
        """Takes a message and the flow it came over."""


class Watch(Protocol):
    """Sees the octets of every message, as long as somebody asks for it."""

    def received(self, data: bytes, flow: Flow) -> None:
        """A message came in, or what was read of one that cannot be cut out of its stream."""

    def sent(self, data: bytes, flow: Flow) -> None:
        """A message goes out. Never raises."""


def nobody(data: bytes, flow: Flow, lost: MalformedMessage | None = None) -> None:
    """Takes messages until somebody else does."""


def udp_flow_id(listener: str, address: str, port: int) -> str:
    """The id of the UDP flow between a listener (its name) and a peer; the same in every process."""
    return f"udp/{listener}/{join_host_port(address, port)}"


def udp_flow_parts(flow_id: str) -> tuple[str, str, int] | None:
    """Listener name, peer address (without brackets) and port from the id of a UDP flow; None for anything else."""
    parts = flow_id.split("/")
    if len(parts) != 3 or parts[0] != "udp":
        return None
    address, colon, port = parts[2].rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
        return None
    return parts[1], address.strip("[]"), int(port)


def tell_users(flow: Flow, reason: str, journal: Journal | None = None) -> None:
    """Tells each user of the flow once that it failed, and forgets them (RFC 3261 s18.4).

    Called from a fresh call stack only. A user that raises does not keep the others from being told.
    """
    users: list[IFlowUser] = list(flow.users)
    flow.users.clear()
    for user in users:
        try:
            user.flow_failed(reason)
        except Exception:
            if journal is None:
                raise
            write_bug(journal)


def write_bug(journal: Journal) -> None:
    """The exception at hand, into the journal."""
    if journal.sinks:
        journal.write("bug", reason=traceback.format_exc())
