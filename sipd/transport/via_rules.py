"""What the topmost Via is told about its sender, and where a response goes (RFC 3261 s18.2, RFC 3581 s4). Pure."""

from __future__ import annotations

import ipaddress

from sipd.flow import Flow
from sipd.message.hop import DEFAULT_PORT, Hop
from sipd.message.message import Message
from sipd.message.via import Via, is_group


def mark(request: Message, flow: Flow) -> None:
    """Writes the packet's source into the topmost Via of a request that came over `flow`, where it has to be.

    The request must have a typed Via. Its `via`, `first` and header line change together; nothing changes when sent-by
    is the source and rport was not asked for. What a sender wrote into these parameters itself is never believed.
    """
    via = request.via
    assert via is not None
    host = via.head.host
    address = flow.address
    # RFC 3261 s18.2.1: received is added when the host of sent-by is a name or differs from the source address.
    same = host == address or host == f"[{address}]"
    if same and not via.asks_port and (via.usual or "received" not in via.params):
        return
    # RFC 3581 s4: rport gets the source port, and then received is there even when it equals sent-by.
    old = via.text
    if via.usual:
        new = old + (flow.noted if via.asks_port else f";received={address}")
        via.mark(new)
    else:
        rport = str(flow.port) if via.asks_port else None
        received = address if rport is not None or not same else None
        new = _rewritten(via, received, rport)
        via.mark(new, received, rport)
    line = request.first["via"]
    value = new if line == old else new + line[len(old):] if line.startswith(old) else new
    request.first["via"] = value
    headers = request.headers
    for i, header in enumerate(headers):
        if header[0] == "via":
            headers[i] = ("via", value, f"Via: {value}")
            break


def _rewritten(via: Via, received: str | None, rport: str | None) -> str:
    """The text of a Via value with these in place of its own received and rport; the rest as it was written."""
    text = via.text
    params = via.params
    if received is not None and rport is not None and "received" not in params and text.count(";") == len(params):
        # as nearly every phone writes it: no quoted ";", no parameter twice
        before, found, after = text.partition(";rport")
        if found and (not after or after[0] == ";"):
            return f"{before};rport={rport}{after};received={received}"
    parts = text.split(";")
    if '"' in text:
        # a semicolon may stand in a quoted string: only the parameters as they were read can be trusted
        parts[1:] = [name if value is None else f"{name}={value}" for name, value in via.params.items()]
    kept = [parts[0]]
    for part in parts[1:]:
        name = part.partition("=")[0].strip(" \t\r\n").lower()
        if name == "rport":
            if rport is not None:
                kept.append(f"rport={rport}")
                rport = None
        elif name != "received":
            kept.append(part)
    if received is not None:
        kept.append(f"received={received}")
    return ";".join(kept)


def response_hop(via: Via, flow: Flow) -> Hop | None:
    """Where a response goes, by the topmost Via of the request that came over `flow` and was marked; None: over `flow`.

    A hop for UDP is to be reached from the listener the request came to, one for a stream by a new connection.
    """
    if flow.reliable:
        # RFC 3261 s18.2.2: the same connection, else a new one to received and the port of sent-by.
        if flow.alive:
            return None
        return Hop(flow.transport, flow.address, via.head.port or DEFAULT_PORT[flow.transport])
    if via.maddr is not None:
        # RFC 3261 s18.2.2: maddr wins. Where it is no address of one host we answer the source instead: multicast
        # would let one packet make many.
        maddr = via.maddr.strip("[]")
        if is_unicast(maddr):
            return Hop("udp", maddr, via.head.port or 5060)
    if via.asks_port:
        return None
    # received and sent-by port; received is the source, or sent-by is.
    port = via.head.port or 5060
    return None if port == flow.port else Hop("udp", flow.address, port)


def is_unicast(address: str) -> bool:
    """True for the numeric address of one host: not multicast, broadcast or unspecified, and without a zone, which
    means nothing here and may be of any length."""
    if "%" in address:
        return False
    try:
        value = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (value.is_unspecified or is_group(address))
