"""The server that docs/api.md tells of."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sipd.binding import Binding
from sipd.message.hop import Hop
from tests.test_reloading import ServerTestCase, _until

DOCS = Path(__file__).resolve().parents[2] / "docs"


class DocumentedTestCase(ServerTestCase):
    """A server as the pages have it: two users, the first of them registered."""

    async def asked(self) -> Any:
        """What the server's API is asked with."""
        server = self.start(self.text("[users]\n1001 = 'a'\n1002 = 'b'\n"))
        core: Any = server.core
        core.location.change("1001@example.com", [("put", Binding(
            "1001@example.com", "sip:1001@192.0.2.9", "", 1000, time.time() + 600, "c", 1,
            source=Hop("tcp", "192.0.2.9", 40000), flow="tcp/1"))], lambda reason: None)
        await _until(lambda: len(core.location) == 1)
        assert server._control is not None
        return server._control._api
