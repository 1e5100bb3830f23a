"""The journal: operational records of what the server did and why, and their fan-out to sinks.

A record is a kind from CATALOGUE and its fields. It costs one attribute test where nobody listens:

    if journal.sinks and journal.calls:
        journal.write("call-start", caller=..., callee=...)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

#: Every kind of record, with the sentence a person reads in the log. A test holds that each kind written in the
#: code stands here and that each kind here is written somewhere.
CATALOGUE: Final[dict[str, str]] = {
    "registration-new": "{aor} registered {contact} from {source}, expires in {expires} s",
    "registration-moved": "{aor} moved from {old} to {contact}, seen at {source}, expires in {expires} s",
    "registration-lost": "{aor} lost {contact}: {reason}",
    "call-start": "call {call_id}: {caller} calls {callee} from {source}",
    "call-answered": "call {call_id}: answered by {answered_by}",
    "call-failed": "call {call_id}: ended {status}: {reason}",
    "call-end": "call {call_id}: {how}, after {seconds} s",
    "originate-connected": "{first} and {second} are connected by {way}",
    "originate-failed": "{first} and {second} are not connected: {reason}",
    "calls-unwritten": "calls cannot be written to {path}: {reason}; they go on, and what is not written is lost",
    "calls-written": "calls are written to {path} again; {lost} lines were lost so far",
    "refused": "{method} from {source} refused {status}: {reason} ({who})",
    "undelivered": "{source} did not take our answer: {reason}",
    "malformed": "{transport} message from {source} is malformed: {reason}",
    "hop-failed": "{hop} failed: {reason}; tried last for {seconds} s",
    "flow-failed": "{flow}, the only way to its phone, failed: {reason}",
    "nowhere": "no way to {uri}: {reason}",
    "tls-withdrawn": "{domain} offered TLS in the DNS and does not any more: somebody may want to read along",
    "store-failed": "the location store failed: {reason}",
    "limit-reached": "{table} is full at {limit}: {reason}",
    "overload-began": "overloaded: {delay} ms behind, {wanted} ms are wanted; some new requests are refused",
    "overload-ended": "no longer overloaded after {seconds} s: {refused} requests refused, {worst} ms behind at worst",
    "peer-registered": "peer {peer} is registered at {hop} for {expires} s",
    "peer-refused": "peer {peer} is refused: {reason}; its registrar is left alone for {seconds} s",
    "peer-failed": "peer {peer} cannot register: {reason}; tried again in {seconds} s",
    "peer-unregistered": "peer {peer} is no longer registered",
    "peer-asks": "peer {peer} at {source} does not take our credentials for {method}: {status} (call {call_id})",
    "peer-nobody": "[peers.{peer}] is about a user whom nobody has added",
    "peer-unreachable": "{peer} does not answer any more: {reason}",
    "peer-reachable": "{peer} is {state}, {milliseconds} ms away",
    "message-stored": "message {number} from {sender} to {aor} is stored until somebody is there",
    "message-delivered": "message {number} from {sender} to {aor} is delivered at {contact}",
    "message-lost": "message {number} from {sender} to {aor} is not delivered: {reason}",
    "message-store-failed": "the message store failed: {reason}",
    "call-forwarded": "call {call_id}: {who} is forwarded to {to}: {reason}",
    "forward-set": "{aor}: {change}",
    "script": "the script says: {text}",
    "script-failed": "the script failed at {place}: {reason}; the call is answered 500",
    "script-slow": "the script at {place} held the server for {milliseconds} ms",
    "subscription-lost": "{watcher} is not told the {package} of {entity} any more: {reason}",
    "listener-up": "listening on {listener}",
    "listener-lost": "no longer listening on {listener}: {reason}",
    "connection-refused": "connection from {source} refused: {reason}",
    "reloaded": "configuration read again: {change}",
    "reload-refused": "configuration not taken, nothing has changed: {reason}",
    "first-start": "{note}",
    "bug": "a bug: {reason}",
}

Sink = Callable[[str, dict[str, Any]], None]


class Journal:
    """Hands each record to the sinks, in the order in which they were added."""

    __slots__ = ("sinks", "calls", "registrations")

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        #: Whether somebody wants the records of calls and registrations, of which a busy server has thousands a second.
        self.calls = True
        self.registrations = True

    def write(self, kind: str, **fields: Any) -> None:
        """One record; `kind` is a key of CATALOGUE and `fields` fill its sentence."""
        for sink in self.sinks:
            sink(kind, fields)
