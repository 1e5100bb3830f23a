"""Bindings for the tests of the location service."""

from __future__ import annotations

from typing import Any

from sipd.binding import Binding
from sipd.message.hop import Hop


def binding(user: str = "alice", contact: str = "", expires_at: float = 1000.0, **others: Any) -> Binding:
    """A binding of `user@example.com`; what is not given is filled with something plausible."""
    values: dict[str, Any] = {
        "params": "", "q": 1000, "call_id": f"{user}@phone", "cseq": 1, "source": Hop("udp", "192.0.2.7", 5060),
        "flow": "udp/192.0.2.1:5060/192.0.2.7:5060", "listener": "192.0.2.1:5060", "user_agent": "phone/1", **others}
    return Binding(f"{user}@example.com", contact or f"sip:{user}@192.0.2.7:5060", expires_at=expires_at, **values)
