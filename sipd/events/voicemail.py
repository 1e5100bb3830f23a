"""Our own subscriptions to mailboxes at voicemail systems (RFC 6665 s4.1, RFC 3842): what waits there is told here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sipd.answer import Answer
from sipd.auth.keyring import Keyring
from sipd.core.uac import Ask, Outcome
from sipd.dialog import Dialog
from sipd.events import message_summary
from sipd.events.package import event_of
from sipd.events.subscription import ENDING
from sipd.inventory import Inventory, Table
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.identifiers import Entropy, Identifiers, chance
from sipd.message.message import Request
from sipd.message.params import parse_params
from sipd.message.values import delta_seconds
from sipd.peers import registration as machine
from sipd.peers.registration import Registration
from sipd.proxy.targets import Target

if TYPE_CHECKING:
    from sipd.core.uac import Sending, Uac
    from sipd.wheel import Timer, TimerWheel

#: Seconds that are asked for, and between the first SUBSCRIBEs of two mailboxes.
EXPIRES, SPREAD = 3600, 0.05
#: Reasons for which a subscription that was ended may be had again at once, but not more often than so (seconds); and
#: those that say that it will not be had again.
_AT_ONCE, HURRY = frozenset({"deactivated", "timeout"}), 60.0
_FOR_GOOD = frozenset({"rejected", "noresource", "invariant"})
#: The user part of our Contact in a subscription.
_CONTACT = re.compile(r"v[0-9a-f]{16}")

#: Where a mailbox is: the target, our address there, and what challenges are answered with.
Account = tuple[Target, str, Keyring]


class _Mailbox:
    """One subscription of ours. What keeps a registration alive keeps a subscription alive."""

    __slots__ = ("entity", "target", "uri", "keyring", "tag", "call_id", "local", "life", "dialog", "cseq", "sending",
                 "timer", "ask", "hurried_at", "until")

    def __init__(self, entity: str, account: Account, identifiers: Identifiers, entropy: Entropy) -> None:
        self.entity = entity
        self.target, self.uri, self.keyring = account
        self.life = Registration(EXPIRES, lambda: chance(entropy))
        self.dialog: Dialog | None = None
        self.sending: Sending | None = None
        self.timer: Timer | None = None
        self.ask: Ask | None = None
        #: When it was last begun anew at once (seconds of the clock).
        self.hurried_at = float("-inf")
        #: When it expires, by the other side's last word.
        self.until = 0.0
        self.begin(identifiers)

    def begin(self, identifiers: Identifiers) -> None:
        """Another dialog."""
        self.dialog = None
        self.cseq = 0
        self.tag, self.call_id = identifiers.tag(), identifiers.tag()
        self.local = f"<{self.uri}>;tag={self.tag}"


class Voicemail:
    """All of them. `account(peer, number)` tells where a mailbox is, None where there is no such peer; `told(entity,
    summary)` is called with what waits, `serve` makes the server transaction of a NOTIFY."""

    def __init__(self, uac: Uac, wheel: TimerWheel, identifiers: Identifiers, entropy: Entropy,
                 serve: Callable[[Request, Any, Callable[[Answer], None]], None],
                 told: Callable[[str, message_summary.Summary, Callable[[str], None]], None],
                 inventory: Inventory, limit: int = 20_000) -> None:
        self._uac = uac
        self._wheel = wheel
        self._identifiers = identifiers
        self._entropy = entropy
        self._serve = serve
        self._told = told
        self.account: Callable[[str, str], Account | None] = lambda peer, number: None
        self._boxes: Table[str, _Mailbox] = inventory.table("mailboxes elsewhere", limit)
        #: By Call-ID and our tag: a NOTIFY may come before the 200 (s4.1.2.4).
        self._dialogs: Table[tuple[str, str], _Mailbox] = inventory.table("dialogs with mailboxes", limit)
        self._wanted: dict[str, str] = {}

    def configure(self, wanted: Mapping[str, str]) -> None:
        """Whose mailboxes are at which peer, by address-of-record."""
        before, self._wanted = self._wanted, dict(wanted)
        for entity in list(self._boxes):
            if before.get(entity) != wanted.get(entity):
                self._perform(self._boxes[entity], self._boxes[entity].life.stop())
        for place, (entity, peer) in enumerate(wanted.items()):
            if entity in self._boxes or self._boxes.full:
                continue
            account = self.account(peer, entity.rpartition("@")[0])
            if account is None:
                continue
            box = self._boxes[entity] = _Mailbox(entity, account, self._identifiers, self._entropy)
            self._dialogs[box.call_id, box.tag] = box
            box.timer = self._wheel.start(place * SPREAD, self._due, box)

    def stop(self) -> None:
        """Leaves all of them, without a word: the voicemail system forgets us when the time is over."""
        for box in list(self._boxes.values()):
            self._forget(box)

    def _forget(self, box: _Mailbox) -> None:
        if box.sending is not None:
            box.sending.cancel()
        if box.timer is not None:
            box.timer.cancel()
        box.sending = box.timer = None
        if self._boxes.get(box.entity) is box:
            del self._boxes[box.entity]
        self._dialogs.pop((box.call_id, box.tag), None)

    # --- SUBSCRIBE

    def _due(self, box: _Mailbox) -> None:
        box.timer = None
        self._perform(box, box.life.start())

    def _perform(self, box: _Mailbox, outputs: list[machine.Output]) -> None:
        for kind, payload in outputs:
            if kind == machine.SEND:
                self._send(box, payload)
            elif kind == machine.START:
                box.timer = self._wheel.start(payload, self._due, box)
            elif kind == machine.STOP and box.timer is not None:
                box.timer.cancel()
                box.timer = None
            elif kind == machine.ABANDON and box.sending is not None:
                box.sending.cancel()
                box.sending = None
            elif kind == machine.OVER:
                self._forget(box)

    def _send(self, box: _Mailbox, expires: int) -> None:
        dialog, target = box.dialog, box.target
        to = f"<{target.uri}>"
        if dialog is not None:
            to, target = dialog.remote, Target(dialog.target, dialog.routes or target.route)
        ask = box.ask = Ask(
            "SUBSCRIBE", target, to, box.local, box.call_id, box.cseq, contact=f"v{box.tag}", expires=expires,
            headers=(("Event", "message-summary"), ("Accept", message_summary.KIND)), keyring=box.keyring,
            patience=0.0 if expires else 4.0)
        box.sending = self._uac.send(ask, partial(self._answered, box, ask))
        if box.sending is None:
            self._answered(box, ask, Outcome(0, "too much is under way here"))

    def _answered(self, box: _Mailbox, ask: Ask, outcome: Outcome) -> None:
        box.sending = None
        box.cseq = ask.cseq
        response, granted = outcome.response, 0
        if response is not None and 200 <= outcome.status < 300:
            granted = min(delta_seconds(response.first.get("expires", "")) or ask.expires or 0, ask.expires or 0)
            box.until = self._wheel.now + granted
            if box.dialog is None:
                try:
                    box.dialog = Dialog(box.call_id, box.local, response.first["to"], box.tag, response.to_tag,
                                        box.target.uri)
                    box.dialog.confirm(response)
                except MalformedMessage:
                    box.dialog = None
        elif outcome.status and ask.expires and (box.dialog is None or outcome.status in ENDING):
            self._anew(box)  # s4.1.2.2: whatever else is answered to a refresh, the subscription stands
            if outcome.status == 481:
                self._perform(box, [(machine.STOP, None), (machine.START, 1.0)])
                box.life = Registration(EXPIRES, lambda: chance(self._entropy))
                return
        self._perform(box, box.life.answered(outcome.status, granted, outcome.retry_after))

    def _anew(self, box: _Mailbox) -> None:
        """Another dialog takes the place of one that is over."""
        self._dialogs.pop((box.call_id, box.tag), None)
        box.begin(self._identifiers)
        self._dialogs[box.call_id, box.tag] = box

    # --- NOTIFY

    def within(self, request: Request, key: Any) -> bool:
        """A NOTIFY in one of our subscriptions; False for any other request. Raises Reject and MalformedMessage."""
        box = self._dialogs.get((request.call_id, request.to_tag))
        if request.method != "NOTIFY":
            return False
        if box is None:
            if _CONTACT.fullmatch(request.uri.user or ""):
                raise Reject(481)  # s4.1.3: of none that we have, or have any more
            return False
        if event_of(request)[0] != "message-summary":
            raise Reject(489, headers=(("Allow-Events", "message-summary"),))
        if box.dialog is not None and (
                request.from_tag != box.dialog.remote_tag or not box.dialog.takes(request)):
            raise Reject(481 if request.from_tag != box.dialog.remote_tag else 500)
        summary = message_summary.read(request.body) if request.body else None
        self._serve(request, key, partial(self._notified, box, request, summary))
        return True

    def _notified(self, box: _Mailbox, request: Request, summary: message_summary.Summary | None,
                  answer: Answer) -> None:
        def stored(reason: str) -> None:
            answer.give(500 if reason else 200)

        if summary is None:
            stored("")
        else:
            self._told(box.entity, summary, stored)
        state, semicolon, rest = request.first.get("subscription-state", "").partition(";")
        try:
            params = parse_params(semicolon + rest)
        except MalformedMessage:
            params = {}
        if box.life.state != machine.REGISTERED:
            return
        if state.strip(" \t").lower() == "terminated":
            self._terminated(box, (params.get("reason") or "").lower(), delta_seconds(params.get("retry-after") or ""))
            return
        seconds = delta_seconds(params.get("expires") or "")
        if seconds and self._wheel.now + seconds < box.until - 1.0:
            # s4.1.3: what a NOTIFY says of the time that is left counts; it cannot be longer than it was (s4.2.2)
            box.until = self._wheel.now + seconds
            self._perform(box, box.life.answered(200, seconds, 0))

    def _terminated(self, box: _Mailbox, reason: str, retry_after: int | None) -> None:
        """s4.1.3: the other side has ended it. It is wanted still, so it is begun anew: at once, or as it says, or as
        late as after a refusal."""
        self._anew(box)
        now = self._wheel.now
        if reason in _AT_ONCE and now - box.hurried_at > HURRY:
            box.hurried_at = now
            self._perform(box, [(machine.STOP, None), (machine.START, 1.0)])
        else:
            self._perform(box, box.life.answered(403 if reason in _FOR_GOOD else 503, 0, retry_after or 0))
