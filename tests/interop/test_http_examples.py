"""The control API over HTTP as docs/api.md shows it, asked by curl."""

from __future__ import annotations

import json
import os
import re
import shutil

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutput

from bench.servers import free_port
from sipd.admin.http_api import HttpApi
from sipd.inventory import Inventory
from tests.support.documented import DOCS, DocumentedTestCase


class HttpExamples(DocumentedTestCase):
    """The server of the page, with HTTP on a port of its own."""

    async def test_http_examples(self) -> None:
        """Each curl of the page, as it stands but for port and directory, is answered as the page says."""
        self.assertIsNotNone(shutil.which("curl"), "curl is not installed (Debian: apt-get install curl)")
        api = await self.asked()
        port = free_port()
        http = HttpApi(self.directory, api, reactor, Inventory())
        self.addCleanup(http.stop)
        http.prepare(("127.0.0.1", port))
        http.settle()
        text = (DOCS / "api.md").read_text(encoding="utf-8")
        token = re.findall(r"^\$ (TOKEN=.*)$", text, re.MULTILINE)[0].replace("/var/lib/sipd", self.directory)
        examples = re.findall(r"^\$ (curl .*)\n(.*)$", text, re.MULTILINE)
        self.assertEqual(len(examples), 4)
        for command, answer in examples:
            line = f"{token}; {command}".replace(":8061/", f":{port}/")
            said = await getProcessOutput("/bin/sh", ["-c", line], {"PATH": os.environ["PATH"]})
            given, wanted = json.loads(said), json.loads(answer)
            self.assertEqual(given, wanted, command)
