"""`[routing] script`: a Python file of the person who runs this, whose function `route` says where calls go.

It runs inside the server, so it may do everything the server may. What it does wrong fails the call that it was
asked about, with 500 and a record that names file and line, and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from inspect import isawaitable, iscoroutine
from time import struct_time
from types import CodeType, TracebackType
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.headers import canonical
from sipd.message.message import Request
from sipd.message.uri import Uri
from sipd.routing.plan import Call
from sipd.routing.rules import Rules, World

#: What the file has to define.
FUNCTION = "route"
#: Seconds that it may hold the server before somebody is told.
SLOW = 0.05
#: Calls that wait for an asynchronous function at a time.
_WAITING = 10_000
#: Names in one answer.
_MOST = 60


class ScriptError(Exception):
    """The file cannot be used; the text says where and why."""


class Refusal(NamedTuple):
    """The call is to be refused."""

    status: int
    reason: str = ""


#: Go on with the routes; refuse; or names and URIs, those of a group at once, one group after the other.
Answer = None | Refusal | list[list[str]]


@dataclass(frozen=True, slots=True)
class RequestView:
    """What the script sees of a request: nothing that it could change."""

    method: str
    #: The Request-URI as it came.
    uri: str
    #: The user part and the domain that are called; the user part and the display name of the caller.
    called: str
    domain: str
    caller: str
    display_name: str
    call_id: str
    #: `transport:address:port` it came from.
    source: str
    _request: Request

    def header(self, name: str) -> str | None:
        """The first value of a header, None when there is none."""
        return self._request.get(canonical(name))

    def headers(self, name: str) -> list[str]:
        """Every value of a header that is a list."""
        return self._request.values(canonical(name))


@dataclass(frozen=True, slots=True)
class PeerView:
    """Who sends the request: `kind` is "user", "trunk", or "" for nobody known, whose name is "" too."""

    name: str
    kind: str


class Helpers:
    """What the script may ask of the server."""

    __slots__ = ("_world", "_rules", "_clock", "_journal")

    def __init__(self, world: World, rules: Rules, clock: IReactorTime, journal: Journal) -> None:
        self._world = world
        self._rules = rules
        self._clock = clock
        self._journal = journal

    def registered(self, name: str) -> bool:
        """Whether a phone of the user is registered."""
        return bool(self._world.bindings_of(self._rules.aor(name), False))

    def is_user(self, name: str) -> bool:
        """Whether there is a user of this name."""
        return self._world.is_user(self._rules.aor(name))

    def is_down(self, trunk: str) -> bool:
        """Whether a trunk is known not to take calls now."""
        return self._world.trunk_down(trunk)

    def calls(self, name: str) -> int:
        """How many calls a user or a trunk has."""
        return self._world.in_use(name)

    def now(self) -> struct_time:
        """The local time."""
        return self._world.local()

    def reject(self, status: int, reason: str = "") -> Refusal:
        """What to return to refuse the call with words of your own."""
        return Refusal(status, reason)

    def sleep(self, seconds: float) -> Deferred[None]:
        """For asynchronous functions: `await helpers.sleep(0.5)`."""
        return deferLater(self._clock, seconds)

    def log(self, text: str) -> None:
        """Writes a line to the server's log."""
        if self._journal.sinks:
            self._journal.write("script", text=str(text)[:500])


class Script:
    """A file that was loaded. `code` is its text; `hosts` are those that it may send calls to. The clock's seconds tell
    how long it holds the server."""

    def __init__(self, path: str, code: str, timeout: float, hosts: Iterable[str], world: World, rules: Rules,
                 clock: IReactorTime, journal: Journal, waiting: Table[object, None]) -> None:
        """Runs the file. Raises ScriptError."""
        self._path = path
        self._timeout = timeout
        self._hosts = frozenset(hosts)
        self._world = world
        self._rules = rules
        self._clock = clock
        self._journal = journal
        self._waiting = waiting
        self._helpers = Helpers(world, rules, clock, journal)
        module: dict[str, Any] = {"__name__": os.path.splitext(os.path.basename(path))[0], "__file__": path}
        try:
            exec(compile(code, path, "exec", dont_inherit=True), module)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise ScriptError(f"{self._place(error.__traceback__, error)}: {_words(error)}") from error
        self._function = module.get(FUNCTION)
        if not callable(self._function):
            raise ScriptError(f"{path}: there is no function {FUNCTION}(request, peer, helpers) in it")

    # --- one call

    def ask(self, call: Call, number: str, domain: str, done: Callable[[Answer], None]) -> None:
        """Calls `done` once with what the function says to a call, now or when it knows."""
        try:
            came = self._timed(self._function, self._view(call, number, domain), self._peer(call), self._helpers)
            if not isawaitable(came):
                done_now = self._answer(came)
        except BaseException as error:
            done_now = self._failed(error)
        else:
            if isawaitable(came):
                self._wait(came, done)
                return
        done(done_now)

    def try_out(self, call: Call, number: str, domain: str) -> tuple[Answer, str]:
        """What the function says, and that in words; one that waits is not run to its end."""
        name = os.path.basename(self._path)
        try:
            function: Any = self._function
            came = function(self._view(call, number, domain), self._peer(call), self._helpers)
            if isawaitable(came):
                if iscoroutine(came):
                    came.close()
                return None, f"{name} would be asked; it is asynchronous and not run for a test, so the routes follow"
            answer = self._answer(came)
        except BaseException as error:
            return Refusal(500), f"{name} fails: {self._place(error.__traceback__, error)}: {_words(error)}"
        return answer, f"{name} says {came!r}" + (": the routes follow" if came is None else "")

    def _wait(self, came: Any, done: Callable[[Answer], None]) -> None:
        if self._waiting.full:
            self._waiting.refused += 1
            if iscoroutine(came):
                came.close()
            done(self._failed(ScriptError(f"{_WAITING} calls wait for it already")))
            return
        mark = object()
        self._waiting[mark] = None
        stretches = _Stretches(self, came) if iscoroutine(came) else None
        answer: Deferred[Any] = Deferred.fromCoroutine(_awaited(stretches or came))
        answer.addTimeout(self._timeout, self._clock)

        def known(came: Any) -> None:
            self._waiting.pop(mark, None)
            try:
                said = self._answer(came) if not isinstance(came, Failure) else self._failed(
                    came.value or ScriptError("it failed"), came, stretches.line if stretches is not None else 0)
            except Exception as error:  # what it returned may do anything when it is looked at
                said = self._failed(error)
            done(said)

        answer.addBoth(known)
        answer.addErrback(lambda failure: self._journal.write("bug", reason=failure.getTraceback()))

    # --- how long it takes

    def _timed(self, function: Any, *arguments: Any) -> Any:
        """Calls a function of the script. One that holds the server is named by its own place."""
        began = self._clock.seconds()
        try:
            return function(*arguments)
        finally:
            code = getattr(function, "__code__", None)
            self._held(began, code, code.co_firstlineno if isinstance(code, CodeType) else 0)

    def _held(self, began: float, code: object, line: int) -> None:
        seconds = self._clock.seconds() - began
        if seconds > SLOW and self._journal.sinks:
            path = code.co_filename if isinstance(code, CodeType) else self._path
            self._journal.write("script-slow", place=f"{path}:{line}", milliseconds=round(seconds * 1000))

    def stretch(self, coroutine: Any, step: Callable[[Any], Any], argument: Any, line: int) -> Any:
        """Runs an asynchronous function up to where it waits next, by which line it is named then; it waited at `line`
        before."""
        began = self._clock.seconds()
        try:
            return step(argument)
        finally:
            frame = coroutine.cr_frame
            self._held(began, coroutine.cr_code, frame.f_lineno if frame is not None else line)

    # --- what goes in and out

    def _view(self, call: Call, number: str, domain: str) -> RequestView:
        request = call.request
        try:
            display = Address.read(request.first.get("from", "")).name
        except MalformedMessage:
            display = ""
        return RequestView(request.method, request.uri_text, number, domain, call.caller, display, request.call_id,
                           str(request.flow or ""), request)

    def _peer(self, call: Call) -> PeerView:
        return PeerView(call.peer, "" if not call.peer else "trunk" if call.peer in self._rules.trunks else "user")

    def _answer(self, came: Any) -> Answer:
        """What the function returned, checked. Raises ScriptError."""
        if came is None:
            return None
        if isinstance(came, bool) or not isinstance(came, (int, str, list, tuple)):
            raise ScriptError(f"{FUNCTION} returned {came!r}; None, a status, a name, or a list of names is wanted")
        if isinstance(came, int):
            came = Refusal(came)
        if isinstance(came, Refusal):
            if not (isinstance(came.status, int) and 300 <= came.status <= 699 and isinstance(came.reason, str)
                    and came.reason.isprintable() and len(came.reason) <= 100):
                raise ScriptError(f"{FUNCTION} returned {came!r}; a status from 300 to 699 and one line are wanted")
            return came
        given = [[came]] if isinstance(came, str) else came
        if given and all(isinstance(one, str) for one in given):
            given = [given]
        groups = [[self._name(name) for name in group] if isinstance(group, (list, tuple)) else [] for group in given]
        if not groups or not all(groups) or sum(map(len, groups)) > _MOST:
            raise ScriptError(f"{FUNCTION} returned {came!r}; names, or lists of names, {_MOST} at most, are wanted")
        return groups

    def _name(self, name: Any) -> str:
        """A name or a URI that calls may go to."""
        if not isinstance(name, str) or not 0 < len(name) <= 256 or not name.isprintable():
            raise ScriptError(f"{FUNCTION} returned {name!r}; a name or a SIP URI is wanted")
        if not name.lower().startswith(("sip:", "sips:")):
            return name
        try:
            uri = Uri.parse(name)
        except MalformedMessage as error:
            raise ScriptError(f"{FUNCTION} returned {name!r}: {error.reason}") from error
        aor = self._world.aor_of(uri)
        if aor:
            return self._rules.name(aor)
        if uri.host not in self._hosts or uri.param("maddr") is not None or uri.headers:
            raise ScriptError(f"{FUNCTION} returned {name!r}; {uri.host} is neither ours, a peer's nor in script_hosts")
        return str(uri)

    # --- what goes wrong

    def _failed(self, error: BaseException, failure: Failure | None = None, line: int = 0) -> Refusal:
        if self._journal.sinks:
            found = failure.getTracebackObject() if failure is not None else None
            place = self._place(error.__traceback__ or found, error, line)
            self._journal.write("script-failed", place=place, reason=_words(error, self._timeout))
        return Refusal(500)

    def _place(self, traceback: TracebackType | None, error: BaseException, waits: int = 0) -> str:
        """File and line of the innermost frame that is the script's; where none is, where it `waits`, or the
        function."""
        if isinstance(error, SyntaxError) and error.filename == self._path:
            return f"{self._path}:{error.lineno}"
        line = waits if isinstance(error, TookTooLong) else 0
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == self._path:
                line = traceback.tb_lineno
            traceback = traceback.tb_next
        code = getattr(getattr(self, "_function", None), "__code__", None)
        return f"{self._path}:{line or (code.co_firstlineno if isinstance(code, CodeType) else 1)}"


class _Stretches:
    """Awaits a coroutine, telling the script of each stretch it runs."""

    def __init__(self, script: Script, coroutine: Any) -> None:
        self._script = script
        self._coroutine = coroutine
        #: Where it waits.
        self.line = coroutine.cr_code.co_firstlineno

    def __await__(self) -> Generator[Any, Any, Any]:
        step, argument = self._coroutine.send, None
        while True:
            try:
                waits = self._script.stretch(self._coroutine, step, argument, self.line)
            except StopIteration as end:
                return end.value
            self.line = self._coroutine.cr_frame.f_lineno
            try:
                step, argument = self._coroutine.send, (yield waits)
            except BaseException:
                step, argument = self._coroutine.throw, sys.exc_info()[1]


async def _awaited(came: Any) -> Any:
    return await came


def _words(error: BaseException, timeout: float = 0.0) -> str:
    if isinstance(error, ScriptError):
        return str(error)
    if isinstance(error, TookTooLong):
        return f"no answer within {timeout:g} s"
    return f"{type(error).__name__}: {error}"[:300]


def waiting(inventory: Inventory) -> Table[object, None]:
    """The calls that wait for an answer of a script, over all that are loaded one after the other."""
    return inventory.table("calls waiting for the script", _WAITING)
