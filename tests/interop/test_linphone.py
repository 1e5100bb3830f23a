"""linphone shows who is there, who is on the phone, and what waits in the mailbox; and tells what its own user does
(RFC 3856, RFC 3842, RFC 3903). Everybody asks with credentials: the server is as it comes."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from twisted.trial import unittest

from sipd.admin.client import ask
from tests.interop.baresip import Phone
from tests.interop.linphone import Linphone, LinphoneLibrary
from tests.interop.sipd_process import SipdProcess
from tests.support.cases import shows

DOMAIN = "sip.example.com"
CONFIG = """
[overload]
shed = false
[events]
unsolicited = ["1002", "1003"]
"""
USERS = {"1001": "a", "1002": "b", "1003": "c"}


class LinphoneTests(unittest.TestCase):
    """One server; phones of users 1001 to 1003."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.server = SipdProcess(self.directory / "server", users=USERS, config=CONFIG, domain=DOMAIN)
        self.addCleanup(self.server.end)
        self.server.start()

    def linphone(self, kind: type[Linphone], user: str, friends: Sequence[str] = (), *, publish: bool = False,
                 details: bool = False) -> Linphone:
        """A linphone, over UDP."""
        phone = kind(self.directory / f"linphone-{user}", self.server.target(), user, USERS[user], DOMAIN, friends=friends,
                     publish=publish, details=details)
        self.addCleanup(phone.stop)
        return phone

    def baresip(self, user: str, *watches: str) -> Phone:
        """A baresip, over UDP."""
        phone = Phone(self.directory / f"baresip-{user}", self.server.target(), user, USERS[user], "udp", 440.0,
                      domain=DOMAIN, watches=watches, account=";mwi=no")
        self.addCleanup(phone.stop)
        if not watches:
            phone.wait_event("REGISTER_OK")
        return phone

    def friend(self, phone: Linphone, friend: str, *expected: str) -> None:
        """Waits until linphone has shown these states of a friend, one after the other and no others; the same again
        does not count."""
        deadline = time.monotonic() + 20
        while True:
            shown = re.findall(rf"Friend .*{friend}@{DOMAIN}\S* is (.+)", phone.shown(0))
            if [state for state, _ in groupby(shown)] == list(expected):
                return
            self.assertLess(time.monotonic(), deadline, f"{expected} expected: {phone.shown(0)[-4000:]}")
            time.sleep(0.1)

    def contact(self, phone: Phone, expected: str) -> None:
        """Waits until baresip shows this of the user it watches."""
        deadline = time.monotonic() + 20
        while expected not in (shown := phone.command("contacts")):
            self.assertLess(time.monotonic(), deadline, f"{expected} expected: {shown}")
            time.sleep(0.1)

    def told(self, phone: Linphone, wanted: str, times: int) -> None:
        """Waits until it has written something that often."""
        deadline = time.monotonic() + 20
        while phone.shown(0).count(wanted) < times:
            self.assertLess(time.monotonic(), deadline, f"{wanted} expected: {phone.shown(0)[-4000:]}")
            time.sleep(0.1)
        self.assertEqual(phone.shown(0).count(wanted), times)

    def mailbox(self, user: str, new: int, old: int) -> None:
        """Says what waits, as `sipctl mwi` does."""
        ask(str(self.server.state / "sipctl.sock"), "mwi set", name=user, new=new, old=old)

    @shows("SUB-01", "SUB-25", "3856 6.7")
    def test_friend(self) -> None:
        """linphonec shows its friend offline; online; on the phone while it rings and while they talk; online again, and
        once more when the server was killed and started; and offline."""
        watcher = self.linphone(Linphone, "1001", ["1002"])
        self.friend(watcher, "1002", "Offline")
        friend, other = self.baresip("1002"), self.baresip("1003")
        self.friend(watcher, "1002", "Offline", "Online")
        other.command("dial", f"sip:1002@{DOMAIN}")
        friend.wait_event("CALL_INCOMING")
        self.friend(watcher, "1002", "Offline", "Online", "On the phone")
        friend.command("accept")
        other.wait_event("CALL_ESTABLISHED")
        self.told(watcher, "is On the phone", 2)
        friend.command("hangup")
        seen = ["Offline", "Online", "On the phone", "Online"]
        self.friend(watcher, "1002", *seen)
        self.server.kill()
        self.server.start()
        self.told(watcher, "is Online", 3)
        friend.stop()
        self.friend(watcher, "1002", *seen, "Offline")

    @shows("SUB-17", "SUB-18")
    def test_published(self) -> None:
        """What linphone publishes of its user (online, away, busy, and offline when it ends) is shown by linphonec and by
        baresip."""
        watcher, other = self.linphone(Linphone, "1001", ["1002"]), self.baresip("1003", "1002")
        self.friend(watcher, "1002", "Offline")
        self.contact(other, "Offline")
        publisher = self.linphone(LinphoneLibrary, "1002", publish=True)
        self.friend(watcher, "1002", "Offline", "Online")
        self.contact(other, "Online")
        publisher.command("presence away")
        self.friend(watcher, "1002", "Offline", "Online", "Away")
        publisher.command("presence busy")
        self.friend(watcher, "1002", "Offline", "Online", "Away", "Busy")
        self.contact(other, "Busy")
        publisher.stop()
        self.friend(watcher, "1002", "Offline", "Online", "Away", "Busy", "Offline")
        self.contact(other, "Offline")

    @shows("SUB-17", "SUB-18")
    def test_linphonec_publishes(self) -> None:
        """linphonec publishes that its user is online, until it ends: its document is what watchers get."""
        watcher = self.linphone(LinphoneLibrary, "1001")
        watcher.command(f"subscribe presence sip:1002@{DOMAIN}")
        self.told(watcher, ">Not online</note>", 1)
        publisher = self.linphone(Linphone, "1002", publish=True)
        self.told(watcher, ":online/>", 1)
        publisher.stop()
        self.told(watcher, ">Not online</note>", 2)

    @shows("SUB-14", "SUB-25")
    def test_mailbox(self) -> None:
        """linphonec 5.1 neither asks what waits in the mailbox nor shows it (newer linphones do, by `mwi_server_uri`). Its
        library asks when a program tells it to, and hands out the counts: at once, after each change, and after the
        server was killed."""
        phone = self.linphone(LinphoneLibrary, "1001")
        phone.command(f"subscribe message-summary sip:1001@{DOMAIN}")
        box = f"Message-Account: sip:1001@{DOMAIN} | Voice-Message"
        self.told(phone, f"message-summary: Messages-Waiting: no | {box}: 0/0 (0/0)", 1)
        self.mailbox("1001", 3, 4)
        self.told(phone, f"message-summary: Messages-Waiting: yes | {box}: 3/4 (0/0)", 1)
        self.server.kill()
        self.server.start()
        self.told(phone, f"message-summary: Messages-Waiting: yes | {box}: 3/4 (0/0)", 2)
        self.mailbox("1001", 0, 7)
        self.told(phone, f"message-summary: Messages-Waiting: no | {box}: 0/7 (0/0)", 1)

    @shows("SUB-14")
    def test_mailbox_unasked(self) -> None:
        """linphonec and linphone's library take the counts that they never asked for: linphonec, which shows none, writes
        them into its log of details with its 200."""
        phone, library = self.linphone(Linphone, "1003", details=True), self.linphone(LinphoneLibrary, "1002")
        for one in (phone, library):
            self.told(one, "Voice-Message: 0/0 (0/0)", 1)
        for user in ("1003", "1002"):
            self.mailbox(user, 3, 4)
        for one in (phone, library):
            self.told(one, "Voice-Message: 3/4 (0/0)", 1)
        for user in ("1003", "1002"):
            self.mailbox(user, 0, 7)
        for one in (phone, library):
            self.told(one, "Voice-Message: 0/7 (0/0)", 1)
        self.assertGreaterEqual(phone.shown(0).count("SIP/2.0 200 Ok"), 3)
