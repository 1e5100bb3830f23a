"""Writes what sipctl shows into docs/cli.md: each command of the page is run against a busy server in virtual time.

    python tools/cli_page.py           writes the page
    python tools/cli_page.py --check   exit status 1 when the page is not what the commands print

In the page's code blocks a line "$ sipctl ..." stands above what the command prints; that text is replaced, all else is
left as it is. Long tables are cut. `tests.support.office` is the server. Commands that go on, or change
more than the page needs, are left as they stand.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.support.office import Office  # noqa: E402

PAGE = ROOT / "docs" / "cli.md"
#: Commands that are not run for the page.
_LEFT = re.compile(r"(sip set|debug|originate|reload|sip reload|notify|sip notify|user)\b")
#: Lines of a table that are shown; a longer one is cut, and its last line is shown where it sums up.
_LINES = 14
_BLOCK = re.compile(r"^```\n(\$ sipctl .*?)^```$", re.MULTILINE | re.DOTALL)


def page(text: str, office: Office) -> str:
    """The page with what the commands print now."""
    def block(found: re.Match[str]) -> str:
        parts = re.split(r"^\$ sipctl (.*)\n", found[1], flags=re.MULTILINE)[1:]
        made = []
        for command, old in zip(parts[::2], parts[1::2], strict=True):
            shown = old.rstrip("\n") + "\n" if _LEFT.match(command) else cut(office.sipctl(*shlex.split(command)))
            made.append(f"$ sipctl {command}\n{shown}")
        return "```\n" + "\n".join(made) + "```"

    return _BLOCK.sub(block, text)


def cut(shown: str) -> str:
    """The beginning of a long table, with its last line where that sums up what is above. What has several parts is no
    table, and stays whole."""
    lines = shown.rstrip("\n").split("\n")
    if len(lines) > _LINES + 2 and "" not in lines:
        lines[_LINES:] = ["..."] + ([lines[-1]] if "  " not in lines[-1] else [])
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Runs the commands of the page."""
    before = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        office = Office(directory)
        try:
            after = page(before, office.day())
        finally:
            office.close()
    if arguments == ["--check"]:
        if after != before:
            print(f"{PAGE} is not what the commands print; python tools/cli_page.py writes it")
        return int(after != before)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
