"""The server ends a call itself: a BYE to each side, as the other would have sent it (RFC 3261 s15.1.1).

That is no proxy's business, and done only where a call would otherwise stay for ever: at its longest duration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sipd.calls.call import CONFIRMED, Call, CallDialog
from sipd.core.uac import Ask, Outcome
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.params import split_list
from sipd.proxy.targets import Target, for_request

if TYPE_CHECKING:
    from sipd.core.uac import Uac
    from sipd.proxy.route_headers import RouteHeaders
    from sipd.proxy.token import RouteToken

#: RFC 3326: why.
_REASON: Final = 'SIP;cause=487;text="The call reached its longest duration"'


class Ending:
    """Hangs up for both sides; `routes` and `token` know our own Record-Route values."""

    def __init__(self, uac: Uac, routes: RouteHeaders, token: RouteToken) -> None:
        self._uac = uac
        self._routes = routes
        self._token = token

    def hang_up(self, call: Call) -> None:
        """Sends a BYE to both sides of each dialog of a call, as far as it is known where they are."""
        for dialog in call.dialogs:
            if dialog.state != CONFIRMED:
                continue
            for to_callee in (True, False):
                try:
                    ask = self.farewell(call, dialog, to_callee)
                except MalformedMessage:
                    ask = None
                side = "callee" if to_callee else "caller"
                if ask is None or self._uac.send(ask, self._told(call, side)) is None:
                    call.note("no-bye", side)
                else:
                    call.note("our-bye", side)

    def _told(self, call: Call, side: str) -> Callable[[Outcome], None]:
        return lambda outcome: call.note("bye-answered", side, outcome.status, outcome.reason)

    def farewell(self, call: Call, dialog: CallDialog, to_callee: bool) -> Ask | None:
        """The BYE to one side of a dialog, None where it cannot be reached. Raises MalformedMessage.

        In the Record-Route of the answer those below us come first, the farthest on top, then our own values, then
        those above us (s16.6 step 4, s12.1.2).
        """
        values = [value for line in dialog.record_routes for value in split_list(line) if value]
        users = [self._routes.user_of_ours(value) for value in values]
        own = [place for place, user in enumerate(users) if user]
        contact = dialog.contact if to_callee else call.contact
        if not own or not contact:
            return None
        from_, to = (call.from_, dialog.to) if to_callee else (dialog.to, call.from_)
        tags = (call.tag, dialog.tag) if to_callee else (dialog.tag, call.tag)
        nearest = own[0] if to_callee else own[-1]
        direction = self._token.check(users[nearest] or "", call.call_id, tags[0], tags[1])
        if direction is None:
            return None  # not the Record-Route of this call
        uri = str(for_request(Address.parse(contact).uri))
        if direction.dress:
            # a trunk's: it goes through ourselves, where requests to trunks are dressed
            target = Target(uri, tuple(values[:own[-1] + 1][::-1] if to_callee else values[own[0]:]))
        else:
            target = Target(uri, tuple(values[:own[0]][::-1] if to_callee else values[own[-1] + 1:]),
                            direction.flow_id, direction.only, self._routes.side(values[nearest]))
        cseq = call.cseq if to_callee else dialog.cseq
        return Ask("BYE", target, to, from_, call.call_id, cseq, headers=(("Reason", _REASON),))
