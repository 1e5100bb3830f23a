"""Who may import whom: the rooms of docs/architecture.md, held by walking the imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent
SIPD = ROOT / "sipd"

#: Rooms that know nothing of sockets, clocks and each other.
VALUES = {"compiling", "message", "journal", "inventory", "wheel"}
#: Values and seams over them.
SEAMS = {"answer", "binding", "dialog", "flow", "interfaces", "config", "config_api", "config_calls", "config_dress", "config_events",
         "config_limits", "config_messages", "config_originate", "config_patterns", "config_peers", "config_routing", "config_text",
         "config_server", "config_trunks", "config_users", "config_source", "config_changes", "state", "certificate", "group_commit", "records"}
#: The rooms of the middle.
ROOMS = {"transaction", "transport", "resolver", "auth", "location", "registrar", "proxy", "calls", "peers", "messages",
         "routing", "events", "core", "controller", "admin"}
#: What starts the server and may know everything.
TOP = {"service", "control_api", "tap", "preflight", "first_start", "log", "reactor", "settings", "reloading",
       "recollection", "routing_parts"}

#: Modules of a room that other rooms may import: pure ones, with neither sockets, clock nor chance.
SHARED = {
    "sipd.transport.listener", "sipd.transport.via_rules", "sipd.transaction.key",
    "sipd.proxy.targets", "sipd.proxy.route_headers", "sipd.proxy.forward", "sipd.proxy.dialog_flows",
    "sipd.auth.keyring", "sipd.calls.call", "sipd.peers.registration",
    "sipd.peers.policy", "sipd.proxy.dressing", "sipd.proxy.identity",
}
#: Single names that other rooms may import from a module that has more: values, an exception and a pure function.
SHARED_NAMES = {"sipd.auth.authenticator.Unauthenticated", "sipd.auth.authenticator.owns",
                "sipd.core.checks.require", "sipd.core.uac.Ask", "sipd.core.uac.Outcome"}
#: sipctl is a program of its own at the top, beside the server.
PROGRAMS = {"sipd.admin.cli"}
#: Modules of the standard library and of Twisted that bring clock, chance or sockets into what imports them.
WORLD = {"time", "random", "secrets", "socket", "threading", "asyncio", "sqlite3", "twisted.internet.reactor"}


def modules() -> dict[str, ast.Module]:
    """Every module of sipd, parsed."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"):
            ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in SIPD.rglob("*.py")
    }


def imports(tree: ast.Module, known: dict[str, ast.Module], top_level: bool = False) -> set[str]:
    """The modules a module imports; those of sipd by their full names, or by one of SHARED_NAMES. What is imported for
    its type alone is no dependency. `top_level` leaves out what functions import."""
    found = set()
    nodes = list(ast.walk(tree))
    apart = [node for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    if top_level:
        apart += [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]  # type: ignore[misc]
    inner = {node for part in apart for node in ast.walk(part)}
    for node in nodes:
        if node in inner:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known or full in WORLD or full in SHARED_NAMES else node.module)
    return found


def room(module: str) -> str:
    """`auth` for sipd.auth.digest, `config` for sipd.config."""
    return module.split(".")[1] if "." in module else ""


class LayerTests(SynchronousTestCase):
    """The table of docs/architecture.md."""

    maxDiff = None

    def setUp(self) -> None:
        self.modules = modules()

    def test_every_room_is_known(self) -> None:
        """A new room is placed in a level before it is built."""
        self.assertEqual({room(name) for name in self.modules} - VALUES - SEAMS - ROOMS - TOP, {""})

    def test_every_module_is_on_the_page(self) -> None:
        """The tree of rooms in docs/architecture.md names each module, and the table of levels each room."""
        page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
        tree = page[page.index("\nsipd/\n"):page.index("\ntests/ ")]
        rooms = {found.partition("/")[0].strip(): set(re.findall(r"\w+", found))
                 for found in re.split(r"\n(?=  \w+/ )", tree)[1:]}
        words = set(re.findall(r"\w+", tree))
        missing = [name for name in self.modules if name.count(".") == 2
                   and name.rpartition(".")[2] not in rooms.get(room(name), ())]
        missing += [name for name in self.modules if name.count(".") == 1 and room(name) not in words]
        table = page[page.index("| level |"):]
        levels = set(re.findall(r"`(\w+)`", table[:table.index("\n\n")]))
        missing += [name for name in VALUES | SEAMS | ROOMS | TOP if not name.startswith("config_") and name not in levels]
        self.assertEqual(sorted(missing), [])

    def test_levels(self) -> None:
        """A module imports its own room, lower levels, and of the other rooms of the middle the shared modules."""
        wrong = []
        for name, tree in self.modules.items():
            own = room(name)
            if own in TOP or name in PROGRAMS or not own:
                continue
            allowed = VALUES | {own} if own in VALUES else VALUES | SEAMS | {own}
            for target in imports(tree, self.modules):
                if target.startswith("sipd.") and room(target) not in allowed and not (
                        own in ROOMS and target in SHARED | SHARED_NAMES):
                    wrong.append(f"{name} imports {target}")
        self.assertEqual(sorted(wrong), [])

    def test_shared_modules_are_pure(self) -> None:
        """A module that other rooms may import defines neither sockets, threads nor timers: it imports none."""
        wrong = [f"{name} imports {target}" for name in sorted(SHARED & set(self.modules))
                 for target in imports(self.modules[name], self.modules) & WORLD]
        self.assertEqual(wrong, [])

    def test_shared_modules_are_shared(self) -> None:
        """The list of shared modules names no module that is not there, and none that nobody else imports."""
        used = {target for name, tree in self.modules.items() for target in imports(tree, self.modules)
                if target in SHARED and room(target) != room(name) and room(name) not in TOP}
        self.assertEqual(sorted(SHARED - used), [])

    def test_values_are_pure(self) -> None:
        """Values read neither clock nor chance and touch no socket."""
        wrong = [f"{name} imports {target}" for name, tree in self.modules.items() if room(name) in VALUES
                 for target in imports(tree, self.modules)
                 if target in WORLD or (target.startswith("twisted") and room(name) == "message")]
        self.assertEqual(wrong, [])

    def test_nobody_installs_a_reactor(self) -> None:
        """No module imports the reactor when it is imported itself: --reactor must still be able to choose."""
        wrong = [name for name, tree in self.modules.items()
                 if "twisted.internet.reactor" in imports(tree, self.modules, top_level=True)]
        self.assertEqual(wrong, [])

    def test_one_thread(self) -> None:
        """Only what writes the stores has a thread."""
        users = {name for name, tree in self.modules.items()
                 if {"threading", "concurrent.futures"} & imports(tree, self.modules)}
        self.assertEqual(users, {"sipd.group_commit"})
