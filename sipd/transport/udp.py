"""UDP sockets read by ourselves, so that ICMP errors are seen and many datagrams are read per wake-up (RFC 3261 s18).

Twisted's own UDP port never learns of ICMP errors, and takes the error state of a socket that does for a disconnect.
So the reactor watches an epoll descriptor that holds the socket: that one is only ever readable, whatever happens.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import classImplements

from sipd.flow import Flow
from sipd.inventory import Table
from sipd.journal import Journal
from sipd.transport.addresses import is_loopback
from sipd.transport.flows import Receive, Watch, tell_users, udp_flow_id, write_bug
from sipd.transport.listener import Listener

#: Datagrams read per wake-up before others get their turn.
BATCH: Final = 32
#: So often the socket is asked first whether more has come.
ASKED: Final = 3
#: Octets of send and receive buffer asked of the kernel, which may give less.
BUFFER: Final = 4 * 1024 * 1024
#: Nothing shorter is a SIP message; phones send CRLFs, NULs and the like to keep a NAT open.
SHORTEST: Final = 20
#: Flows remembered per listener. One that is forgotten is made again when its peer is next met.
FLOWS: Final = 32768

_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
#: Nine numbers on what a socket holds: the first is what waits to be read, the second the room for it, the last what
#: was lost for want of room.
_SO_MEMINFO: Final = 55
_MEMORY: Final = struct.Struct("=9I")
#: When the datagram came that was read last.
_SIOCGSTAMP: Final = 0x8906
_TIMEVAL: Final = struct.Struct("ll")
#: struct sock_extended_err: errno, origin, type, code.
_EXTENDED_ERROR: Final = struct.Struct("=IBBB")
_ORIGIN_LOCAL, _ORIGIN_ICMP, _ORIGIN_ICMP6 = 1, 2, 3


class UdpFlow(Flow):
    """One peer as seen from one listener. Its id is the same in every process."""

    __slots__ = ("_peer", "_sendto", "_port")

    def __init__(self, port: UdpPort, peer: Any) -> None:
        super().__init__(udp_flow_id(port.listener.name, peer[0], peer[1]), port.listener, "udp", peer[0], peer[1])
        self._peer = peer
        self._sendto = port.socket.sendto
        self._port = port

    def send(self, data: bytes) -> None:
        """One datagram, at once."""
        if self._port.watch is not None:
            self._port.watch.sent(data, self)
        try:
            self._sendto(data, self._peer)
        except (OSError, OverflowError) as error:
            self._port.send_failed(self, data, error)

    def send_again(self, data: bytes) -> None:
        """Once more; raises what the socket raises."""
        self._sendto(data, self._peer)



class UdpPort:
    """A UDP socket of one listener. `receive(data, flow)` is called for each datagram that may be a message.

    `table` gives the cache that holds the flows of a listener. With port 0 the kernel chooses one. Raises OSError when
    the address cannot be bound.
    """

    def __init__(
        self, address: str, port: int, advertise: str, reactor: Any, receive: Receive, journal: Journal,
        table: Callable[[Listener], Table[Any, UdpFlow]],
    ) -> None:
        self.v6 = ":" in address
        self.loopback = is_loopback(address)
        self.socket = _bound_socket(address, port, self.v6)
        self.listener = Listener("udp", address, self.socket.getsockname()[1], advertise)
        #: Flows by the peer's address as the socket module writes it.
        self.flows = table(self.listener)
        #: Datagrams the kernel had no room for; UDP may lose them.
        self.dropped = 0
        #: Datagrams that came and were lost for want of room, as far as `lag` has seen.
        self.lost = 0
        self._reactor = reactor
        #: Takes what comes from the next wake-up on; may be another one tomorrow.
        self.receive = receive
        #: Sees what goes out.
        self.watch: Watch | None = None
        self._journal = journal
        self._epoll = select.epoll()
        self._epoll.register(self.socket.fileno(), select.EPOLLIN)
        self._open = True
        #: Twisted asks for it at every wake-up.
        self._log_prefix = f"udp {self.listener.name}"
        reactor.addReader(self)

    def fileno(self) -> int:
        """The descriptor the reactor watches."""
        return self._epoll.fileno() if self._open else -1

    def logPrefix(self) -> str:
        """What Twisted's log calls us."""
        return self._log_prefix

    def doRead(self) -> None:
        """Reads datagrams until there are none, but no more than BATCH; then the reactor comes back. Raises nothing."""
        recvfrom = self.socket.recvfrom
        waiting = self._epoll.poll
        find = self.flows.get
        receive = self.receive
        for count in range(BATCH):
            try:
                data, peer = recvfrom(65535)
            except BlockingIOError:
                if count == 0:
                    # Woken for nothing to read: an error waits. Where there was a datagram too, the error wakes us
                    # again, so that the usual wake-up saves a system call.
                    self._read_errors()
                return
            except OSError:
                self._read_errors()
                return
            if len(data) >= SHORTEST and data[0] >= 2:  # below are STUN
                try:
                    receive(data, find(peer) or self._new_flow(peer))
                except Exception:
                    write_bug(self._journal)
                if not self._open:
                    return
            # Asking costs less than the exception that ends a read of nothing: 1 to 2 us, 7 to 20 when the caches are
            # cold. Where much comes at once it is asked no more, and one exception is the cheaper end.
            if count < ASKED and not waiting(0, 1):
                return

    def flow(self, address: str, port: int) -> UdpFlow:
        """The flow to a peer; `address` must be numeric and of this family, written as the kernel writes it."""
        peer: Any = (address, port, 0, 0) if self.v6 else (address, port)
        return self.flows.get(peer) or self._new_flow(peer)

    def send_failed(self, flow: UdpFlow, data: bytes, error: Exception) -> None:
        """A send raised. Tells the flow's users when it was about this flow."""
        if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ENOBUFS):
            self.dropped += 1
            return
        try:
            # The kernel may have reported an earlier ICMP error, of another destination, by failing this send.
            flow.send_again(data)
        except (OSError, OverflowError) as second:
            reason = os.strerror(second.errno).lower() if isinstance(second, OSError) and second.errno else str(second)
            self._reactor.callLater(0, tell_users, flow, reason, self._journal)

    def lag(self, wall: float) -> tuple[float, bool]:
        """How old the datagram was that was read last, in seconds, 0 when nothing waits behind it; and whether what
        waits fills half the room there is, or some was lost since this was last asked. `wall`: seconds since the epoch.
        """
        try:
            memory = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMORY.size)
            waiting, room, _, _, _, _, _, _, lost = _MEMORY.unpack(memory)
            crowded = 2 * waiting > room or lost != self.lost
            self.lost = lost
            if not waiting:
                return 0.0, crowded
            seconds, micros = _TIMEVAL.unpack(fcntl.ioctl(self.socket, _SIOCGSTAMP, bytes(_TIMEVAL.size)))
        except OSError:
            return 0.0, False  # nothing was read yet, or this system does not tell
        # the wall's clock may have been set meanwhile
        return min(max(wall - seconds - micros / 1e6, 0.0), 10.0), crowded

    def call_itself(self, advertise: str) -> None:
        """Tells peers another name from now on. What has begun goes on under the old one."""
        self.listener = Listener("udp", self.listener.address, self.listener.port, advertise)
        self.flows.clear()

    def close(self) -> None:
        """Stops reading and frees the address. Flows live on but reach nobody."""
        if self._open:
            self._open = False
            self._reactor.removeReader(self)
            self._epoll.close()
            self.socket.close()
            self.flows.clear()

    def connectionLost(self, reason: Any) -> None:
        """The reactor lets go of us: it is being torn down."""
        self.close()

    def _new_flow(self, peer: Any) -> UdpFlow:
        flow = UdpFlow(self, peer)
        if self.flows.full:
            self._forget_strangers()
        self.flows.remember(peer, flow)
        return flow

    def _forget_strangers(self) -> None:
        """Room for more flows: a flood of made-up sources must not make us forget who is known."""
        flows = self.flows
        older = [peer for peer, flow in islice(flows.items(), flows.limit // 2) if not flow.known]
        for peer in older[:flows.limit // 8 + 1]:
            del flows[peer]

    def _read_errors(self) -> None:
        """Empties the error queue (RFC 3261 s18.4), at most BATCH at a time."""
        for _ in range(BATCH):
            try:
                _, ancillary, _, peer = self.socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            flow = self.flows.get(peer)
            if flow is None or not flow.users:
                continue
            for level, kind, blob in ancillary:
                if (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
                    number, origin, icmp_type, code = _EXTENDED_ERROR.unpack_from(blob)
                    if _is_final(number, origin, icmp_type, code):
                        tell_users(flow, os.strerror(number).lower(), self._journal)


classImplements(UdpPort, IReadDescriptor)


def _is_final(number: int, origin: int, icmp_type: int, code: int) -> bool:
    """True for an error that says this peer cannot be reached.

    RFC 3261 s18.4: host, network, port or protocol unreachable and parameter problem are told, source quench and TTL
    exceeded are not. "Fragmentation needed" is not either: the kernel has learned, and the next send is cut to fit.
    """
    if origin == _ORIGIN_ICMP:
        return (icmp_type == 3 and code != 4) or icmp_type == 12
    if origin == _ORIGIN_ICMP6:
        return icmp_type in (1, 4)
    return origin == _ORIGIN_LOCAL and number != errno.EMSGSIZE


def _bound_socket(address: str, port: int, v6: bool) -> socket.socket:
    """A non-blocking socket with big buffers that hears of ICMP errors. Raises OSError."""
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        for plain, forced in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER)
            except OSError:
                # past the system's limit only with CAP_NET_ADMIN; without it the kernel gives what it may
                sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER)
        with contextlib.suppress(OSError):
            fcntl.ioctl(sock, _SIOCGSTAMP, bytes(_TIMEVAL.size))  # from the first question on the kernel keeps the time
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock
