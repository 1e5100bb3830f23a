"""The flows to both parties of a dialog that our token names, where only they lead back (RFC 5626 s5.2). Pure."""

from __future__ import annotations

from sipd.flow import Flow
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.hop import hidden_from
from sipd.message.message import Request
from sipd.message.via import Via
from sipd.proxy.targets import Target


def caller_flow(request: Request, flow: Flow) -> str:
    """The caller's flow for the token, when requests of the dialog need it to find their way back."""
    via = request.via
    assert via is not None
    first_hop = len(request.all("via")) == 1
    nat = _differs(via, flow) or (first_hop and _is_private(request, flow))
    if not nat and not flow.reliable:
        return ""
    if not first_hop and "record-route" not in request.first:
        return ""  # a proxy without Record-Route before us: the dialog's requests do not pass it
    return f"~{flow.id}" if nat else flow.id


def _differs(via: Via, flow: Flow) -> bool:
    """Behind NAT: sent-by is another address than the source, or another port where rport was asked."""
    head = via.head
    if head.host.strip("[]") != flow.address:
        return True
    return via.asks_port and (head.port or 5060) != flow.port and not flow.reliable


def _is_private(request: Request, flow: Flow) -> bool:
    """Behind NAT all the same: the Contact has a private address which is not the source."""
    contact = request.first.get("contact")
    if contact is None or f"@{flow.address}:" in contact:
        return False
    try:
        host = Address.parse(contact).uri.address
    except MalformedMessage:
        return False
    return hidden_from(flow.address, host)


def callee_flow(target: Target) -> str:
    """The callee's flow for the token, when its binding is reached over one."""
    if not target.flow_id:
        return ""
    return f"~{target.flow_id}" if target.only else target.flow_id
