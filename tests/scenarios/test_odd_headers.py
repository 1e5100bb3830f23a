"""Headers that make no sense, on every path a request can take: an answer or silence, never a bug of ours (s26.3.2.4)."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import TestCase

from sipd.auth.digest import answer, parse_challenge
from tests.support.cases import shows
from tests.support.rig import SERVER, Phone, Rig

_VALUES = (
    "", ",", ",,", ";", "<", ">", "<>", "<,>", '"', '""', '"" <>', "*", "*;q=1", "<*>", "<sip:>", "<sip:@>", "sip:", ":",
    "<sip:x@>", "<sip:x@y", "<sip:1001@example.com>;", "<sip:1001@example.com>;;", "<sip:1001@example.com>;tag",
    "<sip:1001@example.com>;tag=", "<sip:1001@example.com>;expires", "<sip:1001@example.com>;expires=;q=",
    "<sip:1001@example.com>;q=x;expires=-1", "<sip:1001@example.com;lr;lr=>,", "<tel:>", "<tel:;>", "<mailto:x>",
    "<sip:%00@example.com>", "<sip:%ff%fe@example.com>", "\udcff\udcfe", "\u0661", "-1", "99999999999999999999", "a b",
    "<sip:[::1]>", "<sip:[]>", "<sip:[::]:0>", f"<sip:{SERVER};lr>", f"<sip:x@{SERVER};lr>, <sip:>", "Digest", "digest ,",
    'Digest realm="example.com"', 'Digest username=, realm="example.com"', "path", "foo", "foo, ,bar", "UDP", "0",
    "<sip:example.com;maddr=>", "<sip:example.com;maddr=;lr>", "x" * 5000, "<sip:" + "x" * 3000 + "@y>", ", " * 900,
)
_HEADERS = ("From", "To", "Contact", "Route", "Path", "Expires", "Max-Forwards", "P-Preferred-Identity", "Supported",
            "Require", "Proxy-Require", "Authorization", "Proxy-Authorization", "Record-Route", "User-Agent", "Reason",
            "P-Asserted-Identity", "Timestamp", "Via", "Call-ID", "CSeq", "Content-Length", "Content-Type", "Privacy")
_URIS = ("sip:example.com", "sip:1002@example.com", "sip:nobody@198.51.100.5", f"sip:{SERVER};lr", "tel:1002", "tel:",
         "sip:example.com;maddr=", "sip:1002@example.com;lr;maddr=192.0.2.1", "sip:%00@example.com", "sip:example.com:0")


class OddHeaders(TestCase):
    """Each header with each odd value, on Request-URIs in turn."""

    def sweep(self, rig: Rig, methods: tuple[str, ...], log_in: bool = False) -> None:
        """Sends them all from one phone and waits until everything has ended."""
        a = rig.phone("1001")
        rig.network.endpoint("udp", "198.51.100.5", 5060)
        rig.binding("1002", "sip:1002@198.51.100.5")
        numbers = itertools.count(1)
        for method in methods:
            params = self.challenge(a) if log_in else {}
            for name, value in itertools.product(_HEADERS, _VALUES):
                number = next(numbers)
                uri = _URIS[number * 7 % len(_URIS)]
                fields = {"Via": f"SIP/2.0/UDP {a.address};branch=z9hG4bKo{method}{number}",
                          "From": "<sip:anonymous@anonymous.invalid>;tag=1" if name.startswith("P-P")
                                  else "<sip:1001@example.com>;tag=1",
                          "To": "<sip:1001@example.com>" + (";tag=2" if number % 2 else ""), "Call-ID": f"o{number}",
                          "CSeq": f"1 {method}", "Max-Forwards": "70", "Contact": f"<{a.contact}>"}
                if log_in:
                    kind = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
                    fields[kind] = answer(params, method, uri, "1001", "secret1", "c", number)
                fields[name] = value
                lines = [f"{method} {uri} SIP/2.0", *(f"{key}: {text}" for key, text in fields.items()), "", ""]
                a.send("\r\n".join(lines).encode("utf-8", "surrogateescape"))
                self.assertEqual(rig.bugs, [], f"{method} {uri} {name}: {value[:60]!r}")
            # what was forwarded is answered by nobody; it must end by itself
            rig.network.packets.clear()
            rig.advance(2, 1)
            self.assertEqual(rig.bugs, [])
            self.pass_over(a)
        rig.advance(250, 5)
        self.assertEqual(rig.bugs, [])
        self.pass_over(a)
        rig.finish()

    def challenge(self, phone: Phone) -> dict[str, str]:
        """A challenge to compute credentials from."""
        self.pass_over(phone)
        params = parse_challenge(phone.register(take=401).first["www-authenticate"])
        assert params is not None
        return params

    def pass_over(self, phone: Phone) -> None:
        """Drops what the phone received; refusals of broken requests cannot be read."""
        phone.raw.clear()
        phone._read = 0

    @shows("REG-42", "AUT-04", "10.3")
    def test_register(self) -> None:
        """REGISTER to a server that asks nobody."""
        self.sweep(Rig(), ("REGISTER",))

    @shows("AUT-09", "22.3")
    def test_strangers(self) -> None:
        """REGISTER, MESSAGE and ACK of strangers."""
        self.sweep(Rig(auth={"required": True}), ("REGISTER", "MESSAGE", "ACK"))

    @shows("AUT-02", "22.3")
    def test_logged_in(self) -> None:
        """REGISTER, MESSAGE and INVITE of a user who shows a password."""
        self.sweep(Rig(auth={"required": True}), ("REGISTER", "MESSAGE", "INVITE"), log_in=True)

    @shows("AUT-17")
    def test_guests(self) -> None:
        """MESSAGE of guests, forwarded where it can be."""
        self.sweep(Rig(auth={"required": True}, proxy={"guests": True}), ("MESSAGE", "CANCEL"))

    @shows("AUT-17", "16.3")
    def test_trusted(self) -> None:
        """INVITE, OPTIONS and ACK where everybody is trusted."""
        self.sweep(Rig(), ("INVITE", "OPTIONS", "ACK"))
