"""The transport layer: listeners, wildcards, the choice of a flow, connections of ours; deadlines in virtual time."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from sipd.config_limits import Limits
from sipd.interfaces import ITransports
from sipd.message.hop import Hop
from sipd.transport.addresses import canonical_address, local_addresses, source_address
from sipd.transport.layer import REFRESH, ListenError
from tests.support.cases import shows
from tests.transport.rig import OPTIONS, Rig, User, closed_port, listen, udp_socket


class Peer:
    """A blocking TCP client that the tests use from the reactor's thread; loopback answers at once."""

    def __init__(self, place: tuple[str, int]) -> None:
        self.sock = socket.create_connection(place, timeout=1.0)

    def closed(self) -> bool:
        """True when the other side has closed."""
        self.sock.setblocking(False)
        try:
            return self.sock.recv(10, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True


class LayerTests(TestCase):
    """Real sockets on loopback."""

    def rig(self, *listens: Any, **more: Any) -> Rig:
        """Started transports, stopped after the test."""
        rig = Rig(*listens, reactor=more.pop("reactor", reactor), **more)
        rig.transports.start()
        self.addCleanup(rig.transports.stop)
        return rig

    def peer(self, place: tuple[str, int]) -> Peer:
        """A TCP client, closed after the test."""
        peer = Peer(place)
        self.addCleanup(peer.sock.close)
        return peer

    def test_interface(self) -> None:
        """It is what others are told to expect."""
        verifyObject(ITransports, Rig(reactor=reactor).transports)

    async def test_stop_leaves_nothing(self) -> None:
        """After the stop no table, socket or timer is left, connections of both kinds included."""
        rig = self.rig(listen("udp", "0.0.0.0"), listen("tcp"), local_addresses=lambda: ["127.0.0.1"])
        peer = self.peer(rig.place(1))
        await rig.until(lambda: rig.inventory.left())
        flow, _ = await rig.connect(Hop("tcp", *rig.place(1)))
        self.assertTrue(flow.alive)
        attempt = rig.connect(Hop("tcp", "127.0.0.1", closed_port(socket.SOCK_STREAM)))
        await rig.transports.stop()
        self.assertEqual((await attempt)[0], None)
        self.assertEqual(rig.inventory.left(), {})
        self.assertTrue(peer.closed())
        self.assertFalse(flow.alive)

    # -- listeners

    async def test_wildcard(self) -> None:
        """A wildcard stands for the concrete addresses of its family, those named by another listener left out."""
        port = closed_port()
        rig = self.rig(listen("udp", "0.0.0.0", port), listen("udp", "127.0.0.2", port), listen("tcp", "::", port),
                       local_addresses=lambda: ["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"])
        self.assertEqual(sorted(map(str, rig.transports.listeners)), sorted([
            f"udp:127.0.0.1:{port}", f"udp:127.0.0.2:{port}", f"udp:127.0.0.3:{port}", f"tcp:[::1]:{port}"]))
        self.assertEqual([kind for kind, _ in rig.records], ["listener-up"] * 4)
        peer = udp_socket()
        self.addCleanup(peer.close)
        peer.sendto(OPTIONS, ("127.0.0.3", port))
        await rig.until(lambda: rig.received)
        rig.received[0][1].send(b"answer")
        self.assertEqual(peer.recvfrom(100), (b"answer", ("127.0.0.3", port)))

    def test_addresses_come_and_go(self) -> None:
        """Every half minute new addresses are listened on and vanished ones let go; each is said once."""
        clock = Clock()
        present = ["127.0.0.1", "127.0.0.2"]
        port = closed_port()
        rig = self.rig(listen("udp", "0.0.0.0", port), listen("tcp", "0.0.0.0", port), clock=clock,
                       local_addresses=lambda: present)
        rig.records.clear()
        present[:] = ["127.0.0.1", "127.0.0.3", "198.51.100.99"]  # the last cannot be bound here
        clock.advance(REFRESH)
        clock.advance(REFRESH)
        self.assertEqual(sorted(map(str, rig.transports.listeners)), sorted(
            f"{transport}:{address}:{port}" for transport in ("udp", "tcp") for address in ("127.0.0.1", "127.0.0.3")))
        self.assertEqual(sorted((kind, fields["listener"]) for kind, fields in rig.records), sorted(
            [("listener-lost", f"{transport}:{address}:{port}")
             for transport in ("udp", "tcp") for address in ("127.0.0.2", "198.51.100.99")]
            + [("listener-up", f"{transport}:127.0.0.3:{port}") for transport in ("udp", "tcp")]))

    def test_every_failure_is_named(self) -> None:
        """Listeners that cannot be opened are all named with the reason, and none stays open."""
        taken = udp_socket()
        self.addCleanup(taken.close)
        port, free = taken.getsockname()[1], closed_port()
        rig = Rig(listen("udp", port=port), listen("udp", port=free), listen("tcp", "198.51.100.99", 5060),
                  listen("tls", port=free), listen("tls", port=free, certificate="/no/such", private_key="/no/such"),
                  reactor=reactor)
        with self.assertRaises(ListenError) as caught:
            rig.transports.start()
        self.assertEqual(str(caught.exception).splitlines(), [
            f"udp:127.0.0.1:{port}: address already in use",
            "tcp:198.51.100.99:5060: cannot assign requested address",
            f"tls:127.0.0.1:{free}: no certificate for TLS",
            f"tls:127.0.0.1:{free}: /no/such: no such file or directory"])
        self.assertEqual(rig.transports.listeners, [])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", free))

    def test_nothing_to_listen_on(self) -> None:
        """A wildcard of a family this host does not have is no mistake, unless there is nothing else."""
        rig = Rig(listen("udp", "::"), reactor=reactor, local_addresses=lambda: ["127.0.0.1"])
        self.assertRaises(ListenError, rig.transports.start)
        self.rig(listen("udp", "::"), listen("udp", "0.0.0.0"), local_addresses=lambda: ["127.0.0.1"])

    def test_own_addresses(self) -> None:
        """The host's addresses are numeric, loopback among them and no link-local IPv6; the kernel's choice too."""
        found = local_addresses()
        self.assertIn("127.0.0.1", found)
        self.assertEqual([one for one in found if one.startswith("fe80") or canonical_address(one) != one], [])
        self.assertEqual(source_address("127.0.0.1"), "127.0.0.1")
        self.assertEqual([canonical_address(text) for text in ("2001:DB8:0::1", "name", "1.2.3")],
                         ["2001:db8::1", "", ""])
        self.assertEqual(canonical_address("fe80::1%" + "x" * 100), "")

    # -- which flow

    async def test_choice_of_listener(self) -> None:
        """The named listener where it can be used, else the one the kernel's route points to, per address family."""
        rig = self.rig(listen("udp", "127.0.0.2"), listen("udp", "127.0.0.1"), listen("udp", "::1"))
        names = [listener.name for listener in rig.transports.listeners]  # type: ignore[attr-defined]

        def chosen(address: str, name: str = "") -> str | None:
            flow = rig.transports.flow_to(Hop("udp", address, 5060), name)
            return flow.listener.name if flow is not None else None
        self.assertEqual(chosen("127.0.0.9"), names[1])
        self.assertEqual(chosen("127.0.0.9", names[0]), names[0])
        self.assertEqual(chosen("127.0.0.9", names[2]), names[1])
        self.assertEqual(chosen("127.0.0.9", "127.0.0.7:5060"), names[1])
        # a loopback listener reaches nobody outside, so naming it decides nothing
        self.assertEqual(chosen("198.51.100.5", names[1]), names[0])
        self.assertEqual(chosen("::1", names[0]), names[2])
        self.assertEqual(rig.transports.flow_to(Hop("udp", "0:0:0:0:0:0:0:1", 5060)),
                         rig.transports.flow_to(Hop("udp", "::1", 5060)))

    async def test_what_cannot_be_reached(self) -> None:
        """Hops that are no address, a family without listener, and ids of nothing give None."""
        rig = self.rig(listen("udp"))
        for hop in (Hop("udp", "name.example.com", 5060), Hop("udp", "127.0.0.1", 0), Hop("udp", "127.0.0.1", 70000),
                    Hop("udp", "::1", 5060), Hop("tcp", "127.0.0.1", 5060)):
            self.assertIsNone(rig.transports.flow_to(hop))
        name = f"127.0.0.1:{rig.place()[1]}"
        for flow_id in ("", "tcp/00", "udp/x/127.0.0.1:1", f"udp/{name}/::1:1", f"udp/{name}/name:1"):
            self.assertIsNone(rig.transports.flow_by_id(flow_id))
        for hop, reason in ((Hop("tcp", "name.example.com", 5060), "not an address to connect to"),
                            (Hop("tcp", "127.0.0.1", 0), "not an address to connect to"),
                            (Hop("tcp", "127.0.0.1", 5060), "no tcp listener of that address family")):
            self.assertEqual(await rig.connect(hop), (None, reason))

    @shows("REG-41")
    async def test_inbound_connections_have_no_address(self) -> None:
        """A connection from a peer is found by its id only, never by where it came from, and never after its end."""
        rig = self.rig(listen("tcp"))
        peer = self.peer(rig.place())
        peer.sock.sendall(OPTIONS)
        await rig.until(lambda: rig.received)
        flow = rig.received[0][1]
        self.assertIs(rig.transports.flow_by_id(flow.id), flow)
        self.assertIsNone(rig.transports.flow_to(Hop("tcp", *peer.sock.getsockname())))
        user = User()
        flow.users.add(user)
        peer.sock.close()
        await rig.until(lambda: user.reasons)
        self.assertEqual(user.reasons, ["connection closed by the peer"])
        self.assertIsNone(rig.transports.flow_by_id(flow.id))
        self.assertEqual(rig.inventory.left(), {})

    # -- streams

    @shows("TRN-03", "TRN-06", "18.3")
    async def test_over_tcp(self) -> None:
        """Two messages in one segment, one octet by octet, a keep-alive, all over a real connection."""
        rig = self.rig(listen("tcp"))
        peer = self.peer(rig.place())
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sock.sendall(OPTIONS * 2)
        for octet in OPTIONS:
            peer.sock.sendall(bytes([octet]))
            await deferLater(reactor, 0)
        peer.sock.sendall(b"\r\n\r\n")
        await rig.until(lambda: len(rig.received) == 3)
        self.assertEqual([data for data, _ in rig.received], [OPTIONS] * 3)
        await deferLater(reactor, 0.02)
        self.assertEqual(peer.sock.recv(10), b"\r\n")
        rig.received[0][1].send(b"answer")
        await deferLater(reactor, 0.02)
        self.assertEqual(peer.sock.recv(10), b"answer")

    @shows("TRN-05", "18.3")
    async def test_garbage(self) -> None:
        """Garbage ends its own connection, and the others go on."""
        rig = self.rig(listen("tcp"), limits=Limits(header_size=1000))
        bad, good = self.peer(rig.place()), self.peer(rig.place())
        bad.sock.sendall(b"garbage\r\n" * 1000)
        await rig.until(bad.closed)
        good.sock.sendall(OPTIONS)
        await rig.until(lambda: any(data == OPTIONS for data, _ in rig.received))
        self.assertFalse(good.closed())

    @shows("TRN-12", "18.3")
    async def test_ten_megabytes(self) -> None:
        """A head of 10 MB is cut off at the limit: the sender cannot push it all."""
        rig = self.rig(listen("tcp"))
        peer = self.peer(rig.place())
        peer.sock.setblocking(False)
        left = 10_000_000
        for _ in range(2000):
            try:
                left -= peer.sock.send(b"X: " + b"x" * 65536)
            except BlockingIOError:
                pass
            except ConnectionError:
                break
            await deferLater(reactor, 0)
        else:
            self.fail("the connection took everything")
        self.assertGreater(left, 0)
        self.assertLessEqual(sum(len(data) for data, _ in rig.received), Limits().header_size)

    @shows("TRN-12", "18.3")
    async def test_slow_reader(self) -> None:
        """A peer that never reads is cut off when the bound is reached, and the users hear of it."""
        rig = self.rig(listen("tcp"), limits=Limits(send_queue=65535))
        peer = self.peer(rig.place())
        peer.sock.sendall(OPTIONS)
        await rig.until(lambda: rig.received)
        flow = rig.received[0][1]
        user = User()
        flow.users.add(user)
        for _ in range(500):
            if not flow.alive:
                break
            flow.send(b"x" * 60000)
            await deferLater(reactor, 0)
        await rig.until(lambda: user.reasons)
        self.assertEqual(user.reasons, ["the peer does not read"])
        self.assertEqual(rig.inventory.left(), {})

    async def test_bounds(self) -> None:
        """Neither one source nor all together can open more connections than they may."""
        rig = self.rig(listen("tcp"), limits=Limits(connections=3, connections_per_source=2))
        first, second, third = (self.peer(rig.place()) for _ in range(3))
        await rig.until(third.closed)
        self.assertFalse(first.closed() or second.closed())
        self.assertEqual([fields["reason"] for kind, fields in rig.records if kind == "connection-refused"],
                         ["2 connections from this source are open"])
        rig.transports._connections.live.limit = 2
        fourth = self.peer(rig.place())
        await rig.until(fourth.closed)
        self.assertEqual((await rig.connect(Hop("tcp", "127.0.0.1", 9)))[1], "too many connections")
        first.sock.close()
        await rig.until(lambda: len(rig.transports._connections.live) == 1)
        fifth = self.peer(rig.place())
        fifth.sock.sendall(OPTIONS)
        await rig.until(lambda: rig.received)

    # -- connections of ours

    async def test_connect(self) -> None:
        """A connection is opened once for all who ask at the same time, found again, and used until it is gone."""
        rig = self.rig(listen("tcp"))
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        hop = Hop("tcp", "127.0.0.1", server.getsockname()[1])
        both = [rig.connect(hop), rig.connect(hop)]
        (flow, reason), (same, _) = [await one for one in both]
        self.assertEqual((reason, flow.alive, flow.address, flow.port), ("", True, *hop[1:3]))
        self.assertIs(same, flow)
        self.assertIs(rig.transports.flow_to(hop), flow)
        self.assertEqual(await rig.connect(hop), (flow, ""))
        accepted, _ = server.accept()
        self.addCleanup(accepted.close)
        flow.send(OPTIONS)
        await deferLater(reactor, 0.02)
        self.assertEqual(accepted.recv(1000), OPTIONS)
        accepted.sendall(OPTIONS)
        await rig.until(lambda: rig.received)
        self.assertIs(rig.received[0][1], flow)
        accepted.close()
        await rig.until(lambda: not flow.alive)
        self.assertIsNone(rig.transports.flow_to(hop))

    @shows("R3261-18.1.1-09")
    async def test_source_of_connections(self) -> None:
        """s18.1.1: a connection leaves from an address that we listen on, so that an answer over a new one arrives; from
        the kernel's choice where that is one."""
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        for listened, source in ((("127.0.0.9",), "127.0.0.9"), (("127.0.0.9", "127.0.0.1"), "127.0.0.1")):
            rig = self.rig(*(listen("tcp", address) for address in listened))
            flow, _ = await rig.connect(Hop("tcp", *server.getsockname()))
            accepted, (address, _) = server.accept()
            self.addCleanup(accepted.close)
            self.assertEqual((address, flow.listener.address), (source, source))

    async def test_refused(self) -> None:
        """A refused connection is told at once, in words."""
        rig = self.rig(listen("tcp"), listen("tcp", "::1"))
        for address in ("127.0.0.1", "::1"):
            hop = Hop("tcp", address, closed_port(socket.SOCK_STREAM, address))
            self.assertEqual(await rig.connect(hop), (None, "connection refused"))
        self.assertEqual(rig.inventory.left(), {})

    def test_deadline(self) -> None:
        """Nobody answers: the attempt ends by the deadline, once for each who waits, and leaves nothing."""
        memory = MemoryReactorClock()
        rig = Rig(listen("tcp"), reactor=memory, limits=Limits(connect_timeout=4.0))
        rig.transports.start()
        results: list[tuple[Any, str]] = []
        for _ in range(2):
            rig.transports.connect(Hop("tcp", "192.0.2.20", 5060), lambda *result: results.append(result))
        self.assertEqual([client[:2] for client in memory.tcpClients], [("192.0.2.20", 5060)])
        memory.advance(3.9)
        self.assertEqual(results, [])
        memory.advance(0.1)
        self.assertEqual(results, [(None, "connection timed out")] * 2)
        memory.advance(10)
        self.assertEqual((len(results), rig.inventory.left(), memory.getDelayedCalls()), (2, {}, []))

    async def test_ids_are_not_used_again(self) -> None:
        """Flow ids come from the entropy source."""
        ids = []
        for _ in range(2):
            rig = self.rig(listen("tcp"))
            rig.transports._connections._entropy = os.urandom
            self.peer(rig.place()).sock.sendall(OPTIONS)
            await rig.until(lambda rig=rig: rig.received)  # type: ignore[misc]
            ids.append(rig.received[0][1].id)
        self.assertEqual([flow_id[:4] for flow_id in ids], ["tcp/"] * 2)
        self.assertNotEqual(*ids)
