"""TCP and TLS connections: framing, keep-alive, deadlines, bounded queues (RFC 3261 s18.3, RFC 5626 s3.5.1)."""

from __future__ import annotations

import fcntl
import os
import sys
import termios
from collections import Counter
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sipd.config_limits import Limits
from sipd.flow import Flow
from sipd.journal import Journal
from sipd.message.errors import MalformedMessage
from sipd.message.framer import Framer
from sipd.message.hop import Hop
from sipd.transport.flows import Receive, Watch, tell_users, write_bug
from sipd.transport.listener import Listener
from sipd.transport.tls import client_names

#: Octets of one read that leave it open whether more were there (the most Twisted reads at once).
FULL = 65536
#: Seconds until a connection that we close is cut, when the peer does not take what still waits for it.
LINGER = 5.0


class StreamFlow(Flow):
    """One live connection. Its id is random: it never names another connection, in a later process neither."""

    __slots__ = ("_connection", "_names")

    def __init__(self, flow_id: str, listener: Listener, address: str, port: int, connection: StreamConnection) -> None:
        super().__init__(flow_id, listener, listener.transport, address, port)
        self._connection = connection
        self._names: tuple[str, ...] | None = None

    def send(self, data: bytes) -> None:
        """Queues one message. Users hear of it when the connection is gone or does not take it."""
        self._connection.send(data)

    def client_names(self) -> tuple[str, ...]:
        """See Flow."""
        if self._names is None:
            self._names = self._connection.client_names()
        return self._names


class StreamSettings:
    """What all connections of a server share.

    `clock` is an IReactorTime; `receive(data, flow)` takes each whole message; `opened(connection)` and
    `closed(connection)` are called once each, `closed` before the users are told.
    """

    __slots__ = ("clock", "receive", "journal", "limits", "opened", "closed", "held", "cut", "full",
                 "watch")

    def __init__(
        self, clock: Any, receive: Receive, journal: Journal, limits: Limits,
        opened: Callable[[StreamConnection], None], closed: Callable[[StreamConnection, str], None],
    ) -> None:
        self.clock = clock
        self.receive = receive
        self.journal = journal
        self.limits = limits
        self.opened = opened
        self.closed = closed
        #: Octets of messages that are not whole yet, and of what waits for peers that do not read.
        self.held = 0
        #: Connections that were ended because of what their peers did or did not do, by reason.
        self.cut: Counter[str] = Counter()
        #: Connections that had as much to read as can be read at once, and how many octets, since this was cleared.
        self.full: Counter[StreamConnection] = Counter()
        #: Sees what goes out.
        self.watch: Watch | None = None


@implementer(IHandshakeListener, IHalfCloseableProtocol, IPushProducer)
class StreamConnection(Protocol):
    """One connection over TCP or TLS, accepted or opened by us.

    One timer per connection, moved only when it fires or must fire earlier: first for the handshake, then for the
    first whole message, then for one that passes the checks, then for silence. Only a whole message or a keep-alive
    counts as a sign of life, and a message that has begun must be whole in time, so octets that trickle in keep nothing
    open.
    """

    def __init__(
        self, flow_id: str, listener: Listener, address: str, port: int, settings: StreamSettings,
        hop: Hop | None = None,
    ) -> None:
        self.flow = StreamFlow(flow_id, listener, address, port, self)
        #: Where we opened it to; None when the peer opened it.
        self.hop = hop
        self._settings = settings
        limits = settings.limits
        self._framer = Framer(limits.header_size, limits.body_size, limits.message_size)
        #: Octets in the framer, as they are counted in what all connections hold.
        self._buffered = 0
        self._ready = listener.transport != "tls"
        #: Set by the opener of an outgoing connection: called when messages can be sent.
        self.when_ready: Callable[[StreamConnection], None] | None = None
        self._write: Callable[[bytes], None] = _nowhere
        #: The peer takes data slower than we send: octets are counted until it caught up.
        self._paused = False
        self._paused_at = 0.0
        self._waiting = 0
        self._closing = False
        self._seen = False
        self._opened_at = 0.0
        self._alive_at = 0.0
        self._begun_at = 0.0
        self._timer: Any = None
        self._why = ""

    def client_names(self) -> tuple[str, ...]:
        """The names that the peer's certificate proves, where it opened the connection; asked once it is ready."""
        wire: Any = self.transport
        if self.hop is not None or self.flow.transport != "tls" or wire is None:
            return ()
        return client_names(wire.getHandle())

    # -- what Twisted calls

    def connectionMade(self) -> None:
        """The connection stands; TLS begins its handshake."""
        settings, limits = self._settings, self._settings.limits
        wire: Any = self.transport
        wire.setTcpNoDelay(True)
        wire.setTcpKeepAlive(True)
        wire.registerProducer(self, True)
        self._write = wire.write
        self._opened_at = self._alive_at = settings.clock.seconds()
        settings.opened(self)
        self._due_within(min(limits.message_timeout, limits.stranger_timeout) if self._ready
                         else limits.handshake_timeout)
        if self._ready and self.when_ready is not None:
            self.when_ready(self)

    def handshakeCompleted(self) -> None:
        """TLS stands."""
        self._ready = True
        self._opened_at = self._alive_at = self._settings.clock.seconds()
        self._due_within(min(self._settings.limits.message_timeout, self._settings.limits.stranger_timeout))
        if self.when_ready is not None:
            self.when_ready(self)

    def dataReceived(self, data: bytes) -> None:
        """Octets came: whole messages go on, pings are answered."""
        if self._closing:
            return
        if len(data) >= FULL:
            self._settings.full[self] += len(data)
        framer = self._framer
        messages = framer.feed(data)
        settings = self._settings
        if messages or framer.pings:
            self._seen = True
            self._alive_at = settings.clock.seconds()
            self._begun_at = 0.0
            for message in messages:
                self._receive(message)
            if framer.pings:
                # RFC 5626 s3.5.1: a double CRLF is answered with a single one.
                pongs, framer.pings = framer.pings, 0
                if self.flow.alive:
                    self.send(b"\r\n" * min(pongs, 16))
        if framer.error is not None:
            # RFC 3261 s18.3: with the framing lost nothing more can be read. What was read of the head goes the way
            # of all messages, where it is refused, so that the peer learns why (TRN-04).
            if framer.rest:
                self._receive_lost(framer.rest, framer.error)
            self.close(framer.error.reason)
        buffered = framer.buffered
        if buffered != self._buffered:
            settings.held += buffered - self._buffered
            self._buffered = buffered
        if buffered:
            if not self._begun_at:
                self._begun_at = settings.clock.seconds()
                self._due_within(settings.limits.message_timeout)
            if self._holds_too_much():
                self.put_out("all connections together hold too much")

    def readConnectionLost(self) -> None:
        """The peer sends no more over TCP. What it is still owed leaves first: it may well read on (s18.2.2)."""
        self.close("connection closed by the peer")

    def writeConnectionLost(self) -> None:
        """Never called: we do not close one half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whoever ended it."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._write = _nowhere
        self._let_go()
        self._settings.full.pop(self, None)
        self.flow.alive = False
        why = self._why or reason_text(reason)
        self._settings.closed(self, why)
        self.when_ready = None
        tell_users(self.flow, why, self._settings.journal)

    def pauseProducing(self) -> None:
        """The wire's buffer is full: from now on we count, and the peer has `message_timeout` to read it all."""
        self._paused = True
        self._paused_at = self._settings.clock.seconds()
        self._due_within(self._settings.limits.message_timeout)

    def resumeProducing(self) -> None:
        """The wire's buffer is empty again."""
        self._paused = False
        self._settings.held -= self._waiting
        self._waiting = 0

    def stopProducing(self) -> None:
        """The wire is gone; connectionLost follows."""

    # -- what the layer and the flow call

    def send(self, data: bytes) -> None:
        """Queues octets; a peer that lets more than `send_queue` of them wait is cut off."""
        if not self.flow.alive:
            self._settings.clock.callLater(0, tell_users, self.flow, "connection closed", self._settings.journal)
            return
        if self._paused:
            self._waiting += len(data)
            self._settings.held += len(data)
            if self._waiting > self._settings.limits.send_queue or self._holds_too_much():
                self.put_out("the peer does not read")
                return
        if self._settings.watch is not None:
            self._settings.watch.sent(data, self.flow)
        self._write(data)

    def close(self, why: str = "closed by the server") -> None:
        """Closes when what waits has left, or after LINGER seconds. Nothing is read or sent any more."""
        if self._closing:
            return
        self._closing = True
        self._why = why
        self.flow.alive = False
        wire: Any = self.transport
        if self._timer is not None and self._timer.active():
            self._timer.cancel()  # what it waited for matters no more, and what waits to leave has its whole time
        self._timer = self._settings.clock.callLater(LINGER, self._due)
        wire.unregisterProducer()
        wire.loseConnection()

    def abort(self, why: str) -> None:
        """Closes at once; what waits is lost. The users are told when the reactor says that it is done."""
        wire: Any = self.transport
        if not self._closing:
            self._closing = True
            wire.unregisterProducer()
        self._why = self._why or why
        self.flow.alive = False
        self._let_go()
        wire.abortConnection()

    def _let_go(self) -> None:
        """What this connection held is nobody's any more."""
        self._settings.held -= self._buffered + self._waiting
        self._buffered = self._waiting = 0

    def put_out(self, why: str) -> None:
        """Closes at once, because of what the peer did or did not do, and counts why."""
        self._settings.cut[why] += 1
        self.abort(why)

    def _holds_too_much(self) -> bool:
        """True when there is no room for what this connection holds; strangers may fill half of it only."""
        limit = self._settings.limits.connection_memory
        return self._settings.held > (limit if self.flow.known or self.hop is not None else limit // 2)

    def figures(self, now: float) -> tuple[float, float, int]:
        """Seconds since it was opened and since the last sign of life, and octets that wait for the peer to read."""
        return now - self._opened_at, now - self._alive_at, self._waiting

    def unread(self) -> int:
        """Octets that wait in the kernel to be read."""
        wire: Any = self.transport
        try:
            return int.from_bytes(fcntl.ioctl(wire.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
        except (OSError, ValueError):
            return 0  # it is gone

    def _receive(self, message: bytes) -> None:
        try:
            self._settings.receive(message, self.flow)
        except Exception:
            write_bug(self._settings.journal)

    def _receive_lost(self, rest: bytes, error: MalformedMessage) -> None:
        try:
            self._settings.receive(rest, self.flow, error)
        except Exception:
            write_bug(self._settings.journal)

    def _due_within(self, seconds: float) -> None:
        """Sees that `_due` is called no later than that."""
        clock = self._settings.clock
        if self._timer is None or not self._timer.active():
            self._timer = clock.callLater(seconds, self._due)
        elif self._timer.getTime() > clock.seconds() + seconds:
            self._timer.reset(seconds)

    def _due(self) -> None:
        """The timer fired: what has not happened in time ends the connection, else the timer waits for what is next."""
        limits = self._settings.limits
        now = self._settings.clock.seconds()
        if self._closing:
            self.abort("closed by the server")
            return
        if not self._ready:
            self.put_out("no TLS handshake in time")
            return
        deadline = self._alive_at + limits.idle_timeout
        why = "idle for too long"
        # a connection we opened owes us nothing until it has been silent for long
        if self.hop is None and not self._seen:
            deadline = self._alive_at + limits.message_timeout
            why = "no message in time"
        if self.hop is None and not self.flow.known and self._opened_at + limits.stranger_timeout < deadline:
            deadline = self._opened_at + limits.stranger_timeout
            why = "nothing was authenticated in time"
        if self._begun_at and self._begun_at + limits.message_timeout < deadline:
            deadline = self._begun_at + limits.message_timeout
            why = "a message was not whole in time"
        if self._paused and self._paused_at + limits.message_timeout < deadline:
            deadline = self._paused_at + limits.message_timeout
            why = "the peer does not read"
        if deadline <= now:
            self._settings.cut[why] += 1
            self.close(why)
        else:
            self._due_within(deadline - now)

    def __str__(self) -> str:
        """`tcp:192.0.2.1:40000`."""
        return str(self.flow)


def _nowhere(data: bytes) -> None:
    """Where octets for a connection go that does not stand."""


def reason_text(failure: Failure) -> str:
    """Why a connection or an attempt ended, in few words and without what Twisted adds."""
    error = failure.value
    if isinstance(error, ConnectionDone):
        return "connection closed by the peer"
    if isinstance(error, ConnectionLost):
        return "connection lost"
    if isinstance(error, TimeoutError):
        return "connection timed out"
    if isinstance(error, ConnectError) and isinstance(error.osError, int):
        return os.strerror(error.osError).lower()
    if isinstance(error, SSL.Error):
        details = error.args[0] if error.args and isinstance(error.args[0], list) else []
        return "TLS failed: " + (", ".join(str(detail[-1]) for detail in details) or "no details")
    return f"{type(error).__name__}: {error}".rstrip(": ")
