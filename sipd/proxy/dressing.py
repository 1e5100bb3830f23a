"""How a request that leaves for a trunk is dressed, and how what comes back is undressed. Pure.

A carrier asks us for credentials, not our users: so we answer, with the next CSeq (RFC 3261 s22.2), and from then on
the caller and the carrier count differently. It wants to see its account in From, and what it is told of the caller is
a matter of trust (RFC 3323, 3325). RFC 3261 leaves all that to user agents (s22.3, s16.6): a deviation, in
docs/conformance.md.

What requests in the dialog need travels in our Record-Route token, so that a call outlives the process:

    side *(" " side)         ">" is about the callee, where that is a trunk, "<" about the caller
    name "|" shift "|" since "|" address "|" look original

`shift` is what the trunk's CSeq of that dialog is ahead; `since` (hexadecimal) which process said so; `address` where
the trunk was; `look` how From was changed, and `original` the URI that stood there, "*" where it was too long. The
shift grows when a trunk asks for credentials in the middle of a dialog; only that is remembered here.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sipd.auth.keyring import Keyring
from sipd.inventory import Inventory, Table
from sipd.message.address import Address
from sipd.message.message import Header, Request, Response
from sipd.proxy.identity import ANONYMOUS, ANONYMOUS_HOST, Account, is_private, without_identity
from sipd.proxy.shifts import Steps

#: How From looks: as it came, as the account's, as nobody's.
AS_IT_CAME, ACCOUNTS, NOBODYS = "", "u", "a"
#: Instead of a URI that does not fit into the token.
_TOO_LONG: Final = "*"
#: Characters of a URI that fit into the token.
_ORIGINAL: Final = 96
#: Times a second that a trunk may ask for credentials in one dialog, so that numbers still rise after a restart.
_CHALLENGES: Final = 16
#: s8.1.1.5: a CSeq number is less.
_CSEQ_END: Final = 2 ** 31
#: Event of the NOTIFYs about a REFER: its id is the CSeq of that (RFC 3515 s2.4.6).
_REFER_ID: Final = re.compile(r"(refer[ \t]*;(?:[^\"]*;)?[ \t]*id[ \t]*=[ \t]*)([0-9]{1,10})(?![^ \t;])", re.IGNORECASE)


class Side(NamedTuple):
    """What the token says of a party that is a trunk. See the head of the file."""

    name: str
    shift: int
    since: int
    address: str
    look: str
    original: str

    def text(self, room: int) -> str:
        """As it stands in the token, in `room` characters if that can be."""
        text = f"{self.name}|{self.shift}|{self.since:x}|{self.address}|{self.look}"
        return text + (self.original if len(text) + len(self.original) <= room else _TOO_LONG)


#: Trunk, Call-ID, and the tags of the one who counts and of the other.
_Dialog = tuple[str, str, str, str]


class Wardrobe:
    """All accounts, and what is remembered of dialogs with trunks. `since` tells this process from those before it: a
    number that rises, such as seconds since the epoch."""

    __slots__ = ("accounts", "dialogs", "shown", "since")

    def __init__(self, inventory: Inventory, since: int, accounts: int, limit: int = 10_000) -> None:
        self.since = since
        self.accounts: Table[str, Account] = inventory.table("accounts at peers", accounts)
        #: Dialogs in which a trunk may ask, or has asked, for credentials.
        self.dialogs: Table[_Dialog, Steps] = inventory.table("dialogs with peers", limit, cache=True)
        #: The credentials of INVITEs, by Call-ID, From tag and CSeq number: their ACKs show the same (s22.1).
        self.shown: Table[tuple[str, str, int], list[tuple[str, str]]] = inventory.table(
            "credentials for ACKs", limit, cache=True)

    def going(self, name: str) -> Dress:
        """For requests that begin something at a trunk."""
        return Dress(self, Side(name, 0, self.since, "", AS_IT_CAME, ""), None)

    def coming(self, name: str, address: str) -> Dress:
        """For requests that begin something and come from a trunk, which is at `address`."""
        return Dress(self, None, Side(name, 0, self.since, address, AS_IT_CAME, ""))

    def in_dialog(self, text: str) -> Dress | None:
        """For a request in a dialog: what our token says, with "+" before it towards the callee, "-" towards the
        caller."""
        towards = ">" if text[:1] == "+" else "<"
        out = back = None
        try:
            for part in text[1:].split(" "):
                name, shift, since, address, look = part[1:].split("|")
                side = Side(name, int(shift), int(since, 16), address, look[:1], look[1:])
                if part[:1] == towards:
                    out = side
                else:
                    back = side
        except ValueError:
            return None  # the token is ours, so of another release
        return Dress(self, out, back)


class Dress:
    """What requests to a target wear: `out` is about the trunk they go to, `back` about the trunk they come from."""

    __slots__ = ("wardrobe", "out", "back", "account")

    def __init__(self, wardrobe: Wardrobe, out: Side | None, back: Side | None) -> None:
        self.wardrobe = wardrobe
        self.out = out
        self.back = back
        self.account: Account | None = wardrobe.accounts.get(out.name) if out is not None else None

    def coming(self, other: Dress) -> Dress:
        """This, for a request that comes from a trunk, as `other` says."""
        return Dress(self.wardrobe, self.out, other.back)

    def put_on(self, request: Request, address: str, worn: Worn | None) -> Worn:
        """Changes a request that is about to leave for `address`. `worn` is what it wore when it was sent before."""
        if worn is None:
            worn = Worn(self, request)
        back = self.back
        if back is not None:
            self._turn_back(request, back, worn)
        out = self.out
        if out is not None:
            worn.address = address
            self._number(request, out, worn)
            account = self.account
            if account is not None:
                if request.to_tag:
                    without_identity(request)
                else:
                    account.identify(request)
            self._name(request, out, worn)
            if account is not None and account.keyring is not None:
                self._show(request, account.keyring, worn)
        return worn

    # --- CSeq

    def _dialog(self, request: Request, out: Side) -> _Dialog:
        return (out.name, request.call_id, request.from_tag, request.to_tag)

    def shift_of(self, request: Request) -> int:
        """What is added to the CSeq of a request when it is sent for the first time."""
        out = self.out
        if out is None:
            return 0
        if not request.to_tag:
            return out.shift
        number, wardrobe = request.cseq_number, self.wardrobe
        key = self._dialog(request, out)
        steps = wardrobe.dialogs.get(key)
        if request.method == "ACK":
            return steps.at(number, out.shift) if steps is not None else out.shift
        keyring = self.account.keyring if self.account is not None else None
        if steps is None:
            # how far the shift grew in the process before this one nobody knows, so it jumps: numbers need only rise
            jump = max(0, wardrobe.since - out.since) * _CHALLENGES
            if keyring is None and not (jump and out.shift):
                return out.shift
            steps = Steps()
            wardrobe.dialogs.remember(key, steps)
            if jump and number + out.shift + jump < _CSEQ_END:
                steps.enter(number, out.shift + jump)
        shift = steps.at(number, out.shift)
        if number > steps.last and number + shift <= steps.highest:
            # s12.2.1.1: what was sent again with a higher number came in between
            shift = steps.highest + 1 - number
            steps.enter(number, shift)
        steps.sent(number, shift)
        return shift

    def grown(self, request: Request, worn: Worn) -> bool:
        """s22.2: the request goes again, with the next number; False when there is none."""
        number, out = worn.number, self.out
        assert out is not None
        shift = worn.shift + 1
        if not request.to_tag:
            if number + shift >= _CSEQ_END:
                return False
            worn.shift = shift
            return True
        steps = self.wardrobe.dialogs.get(self._dialog(request, out))
        if steps is None:
            steps = Steps()
            self.wardrobe.dialogs.remember(self._dialog(request, out), steps)
        shift = max(shift, steps.highest + 1 - number)
        if number + shift >= _CSEQ_END:
            return False
        steps.enter(number, shift)
        steps.sent(number, shift)
        worn.shift = shift
        return True

    def _number(self, request: Request, out: Side, worn: Worn) -> None:
        number, method = worn.number, request.cseq_method
        if worn.shift:
            worn.keep(request, "cseq")
            request.cseq_number = number + worn.shift
            request.set("cseq", f"{request.cseq_number} {method}")
        if "rack" in request.first:
            # RFC 3262 s7.2: the number of the INVITE that is meant, as it was sent
            parts = request.first["rack"].split()
            if len(parts) == 3 and parts[1].isascii() and parts[1].isdigit():
                shift = self._shift_at(request, out, int(parts[1][:10]))
                request.set("rack", f"{parts[0]} {int(parts[1][:10]) + shift} {parts[2]}")

    def _shift_at(self, request: Request, out: Side, number: int) -> int:
        steps = self.wardrobe.dialogs.get(self._dialog(request, out))
        return steps.at(number, out.shift) if steps is not None else out.shift

    # --- From and To

    def _name(self, request: Request, out: Side, worn: Worn) -> None:
        """Makes From what the trunk is to see."""
        account, begins = self.account, not request.to_tag
        address = Address.parse(request.first["from"])
        if begins:
            worn.look = NOBODYS if is_private(request) else ACCOUNTS
        else:
            worn.look, worn.original = out.look, out.original
        value = ""
        if worn.look == NOBODYS and address.uri.host != ANONYMOUS_HOST:
            value = ANONYMOUS + address.param_text
        elif worn.look == ACCOUNTS and account is not None:
            uri = account.look(address)
            if uri != address.uri_text:
                value = str(Address(address.display, uri, address.param_text))
        if not value:
            if begins:
                worn.look = AS_IT_CAME
            return
        if begins:
            text = address.uri_text
            fits = len(text) <= _ORIGINAL and text.isascii() and "|" not in text
            worn.original = text if fits else _TOO_LONG
        worn.keep(request, "from")
        request.set("from", value)

    def _turn_back(self, request: Request, back: Side, worn: Worn) -> None:
        """A trunk's request: To is again what our side wrote, and so is the number that it speaks of."""
        if back.look and back.original != _TOO_LONG:
            address = Address.parse(request.first["to"])
            worn.keep(request, "to")
            request.set("to", str(Address("" if back.look == NOBODYS else address.display, back.original,
                                          address.param_text)))
        if request.method == "NOTIFY" and "event" in request.first:
            found = _REFER_ID.match(request.first["event"])
            if found is not None:
                steps = self.wardrobe.dialogs.get((back.name, request.call_id, request.to_tag, request.from_tag))
                number = int(found.group(2))
                before = steps.before(number, back.shift) if steps is not None else number - back.shift
                if before >= 0:
                    request.set("event", f"{found.group(1)}{before}{request.first['event'][found.end():]}")

    # --- credentials

    def may_show(self, address: str) -> bool:
        """Whether who is at `address` may see credentials: the trunk. A caller says where requests in a dialog go, and
        could have them sent to somebody who asks for the proof that they need."""
        out, account = self.out, self.account
        return out is not None and account is not None and (
            not out.address or out.address == address or account.is_at(address))

    def _show(self, request: Request, keyring: Keyring, worn: Worn) -> None:
        """s22.3: the account's credentials stand in place of what the caller sent, who has none of that realm."""
        request.remove("authorization")
        request.remove("proxy-authorization")
        if request.method == "ACK" or not self.may_show(worn.address):
            return
        fields = keyring.credentials(request.method, request.uri_text, worn.tried)
        for name, value in fields:
            request.add(name, value)
        if fields and request.method == "INVITE":
            self.wardrobe.shown.remember((request.call_id, request.from_tag, worn.number), fields)

    def acknowledge(self, ack: Request, address: str, number: int) -> None:
        """s22.1: the ACK of a 2xx has the credentials of its INVITE, whose number is `number` for the caller."""
        fields = self.wardrobe.shown.get((ack.call_id, ack.from_tag, number))
        if fields is not None and self.may_show(address):
            for name, value in fields:
                ack.set(name.lower(), value)


class Worn:
    """What one branch wears: how its request was changed, and so how its responses are turned back."""

    __slots__ = ("dress", "number", "shift", "look", "original", "address", "tried", "_kept")

    def __init__(self, dress: Dress, request: Request) -> None:
        self.dress = dress
        #: CSeq as the sender counts, and what is added to it.
        self.number = request.cseq_number
        self.shift = dress.shift_of(request)
        self.look = AS_IT_CAME
        self.original = ""
        #: Where it went.
        self.address = ""
        #: How often each realm has refused this hop.
        self.tried: dict[str, int] = {}
        #: Header lines as they came.
        self._kept: dict[str, Header] = {}

    def keep(self, request: Request, name: str) -> None:
        """Remembers a line as it came, before it is changed."""
        if name not in self._kept:
            for header in request.headers:
                if header[0] == name:
                    self._kept[name] = header
                    break

    def text(self, room: int) -> str:
        """What our token says of it, in `room` characters."""
        dress = self.dress
        out, back = dress.out, dress.back
        parts = []
        if out is not None:
            half = room if back is None else room // 2
            parts.append(">" + Side(out.name, self.shift, dress.wardrobe.since, out.address or self.address, self.look,
                                    self.original).text(half - 1))
        if back is not None:
            parts.append("<" + back.text(room - len(parts[0]) - 2 if parts else room - 1))
        return " ".join(parts)

    def take_off(self, response: Response) -> None:
        """Turns a response back into one to the request as it came."""
        kept = self._kept
        if kept:
            headers = response.headers
            for place, header in enumerate(headers):
                name = header[0]
                if name in kept:
                    headers[place] = kept[name]
                    response.first[name] = kept[name][1]
            response.cseq_number = self.number

    @property
    def answers(self) -> bool:
        """True when challenges of the trunk are for us."""
        account = self.dress.account
        return account is not None and account.keyring is not None

    def again(self, request: Request, challenge: Response) -> bool:
        """Takes a 401 or 407 to `request`, as it came. True when it is to be sent again: `put_on` then shows what is
        asked for."""
        account = self.dress.account
        if account is None or account.keyring is None or not self.dress.may_show(self.address):
            return False
        return account.keyring.learn(challenge, self.tried) and self.dress.grown(request, self)

    def answerer(self) -> Dress:
        """For the ACK of who answered, when it comes without our token."""
        dress = self.dress
        out = dress.out
        if out is not None:
            out = out._replace(shift=self.shift, look=self.look, original=self.original, address=self.address)
        return Dress(dress.wardrobe, out, dress.back)
