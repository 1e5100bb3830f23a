"""A listening socket for TCP or TLS: what it is called and which certificate it shows may change while it listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sipd.config_server import Listen
from sipd.transport.listener import Listener
from sipd.transport.tls import InnerFactory, ServerContexts, TlsFactory

#: Connections that the kernel keeps for us until they are accepted.
BACKLOG = 1024

#: Gives the protocol of a connection to a listener from a peer (a Twisted address), None to refuse it.
Accept = Callable[[Listener, Any], Any]


class StreamPort:
    """One listening socket. `reactor` is IReactorTCP, `clock` IReactorTime.

    Raises CannotListenError and CertificateError.
    """

    __slots__ = ("listener", "port", "_accept", "_clock")

    def __init__(self, listen: Listen, address: str, reactor: Any, clock: Any, accept: Accept,
                 contexts: ServerContexts) -> None:
        self._accept = accept
        self._clock = clock
        self.port = reactor.listenTCP(listen.port, self._factory(listen, contexts), backlog=BACKLOG, interface=address)
        # with port 0 the kernel has chosen one
        self.listener = Listener(listen.transport, address, self.port.getHost().port, listen.advertise)

    def renew(self, listen: Listen, contexts: ServerContexts) -> None:
        """From the next connection on it is what `listen` says and shows the certificate in `contexts`, which holds it
        already. Connections that stand do not notice."""
        old = self.listener
        fresh = Listener(listen.transport, old.address, old.port, listen.advertise)
        if str(fresh) != str(old) or fresh.sent_by != old.sent_by:
            self.listener = fresh
        before, factory = self.port.factory, self._factory(listen, contexts)
        factory.doStart()
        self.port.factory = factory
        before.doStop()

    def _factory(self, listen: Listen, contexts: ServerContexts) -> Any:
        inner = InnerFactory(lambda peer: self._accept(self.listener, peer))
        return TlsFactory(contexts.of(listen), False, inner, self._clock) if listen.transport == "tls" else inner
