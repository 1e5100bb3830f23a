"""Everything that would stop the start, found before the process goes into the background.

What is opened here is closed here: twistd forks afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import socket
import ssl
from collections.abc import Iterator, Sequence

from sipd import state
from sipd.config_api import place_of
from sipd.config_server import Listen
from sipd.transport.addresses import local_addresses
from sipd.transport.listener import WILDCARDS


def check(
    directory: str, listeners: Sequence[Listen], uid: int | None = None, gid: int | None = None, http: str = "",
    cdr: str = ""
) -> list[str]:
    """One line for each thing that would stop a start with this state directory ("" for none), these listeners and
    the control API at `http` ("" for none) and the call records in the file `cdr` ("" for one in the state directory):
    what, and what would be right. Empty when fit.

    Makes the state directory when it is missing, for `uid` and `gid` when the process will change to them; the rest
    is tried with their rights.
    """
    errors = []
    if directory:
        try:
            state.ensure(directory, uid, gid)
            lock = state.StateLock(directory)
            if not lock.acquire():
                return [
                    f"[server] state_dir = {directory}: in use by a running sipd, process {lock.holder()}; "
                    "stop that one or give another --state-dir"
                ]
            lock.release()
        except state.StateError as error:
            errors.append(str(error))
    with acting_as(uid, gid):
        if directory and not errors:
            try:
                state.ensure(directory)
            except state.StateError as error:
                errors.append(str(error))
        for listen in listeners:
            errors.extend(certificate_problems(listen))
            problem = port_problem(listen)
            if problem:
                errors.append(problem)
        if http:
            problem = http_problem(http)
            if problem:
                errors.append(problem)
        if cdr:
            try:
                os.close(os.open(cdr, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                errors.append(f"[cdr] path = {cdr}: {error.strerror}; a file this user may write is wanted")
    return errors


@contextlib.contextmanager
def acting_as(uid: int | None, gid: int | None) -> Iterator[None]:
    """For root: with the rights that are left once twistd has changed to `uid` and `gid`, and then root again."""
    if os.geteuid() != 0 or (uid is None and gid is None):
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    try:
        if uid is not None:
            user = pwd.getpwuid(uid)
            gid = user.pw_gid if gid is None else gid
            os.initgroups(user.pw_name, gid)
        if gid is not None:
            os.setegid(gid)
        if uid is not None:
            os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def certificate_problems(listen: Listen) -> list[str]:
    """What is wrong with a listener's certificate and private key, and with what it knows clients by."""
    problems = []
    for key in ("certificate", "private_key", "client_ca"):
        path = getattr(listen, key)
        if not path:
            continue
        try:
            with open(path, "rb") as file:
                if b"-----BEGIN" not in file.read(1048576):
                    problems.append(f"[[listen]] {listen} {key} = {path}: not PEM; a file with -----BEGIN is wanted")
        except OSError as error:
            problems.append(f"[[listen]] {listen} {key} = {path}: {error.strerror}; a readable PEM file is wanted")
    if listen.client_ca and not problems:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(listen.client_ca)
        except ssl.SSLError:
            problems = [f"[[listen]] {listen} client_ca = {listen.client_ca}: cannot be used; certificates in PEM are "
                        "wanted"]
    if problems or not listen.certificate:
        return problems
    try:
        # The password keeps OpenSSL from asking on the terminal for that of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(listen.certificate, listen.private_key, lambda: "-")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            return [f"[[listen]] {listen} private_key = {listen.private_key}: not the key of {listen.certificate}"]
        return [
            f"[[listen]] {listen} certificate = {listen.certificate}, private_key = {listen.private_key}: "
            f"cannot be used: {reason}; a certificate chain and its key without a password, both PEM, are wanted"
        ]
    return []


def port_problem(listen: Listen) -> str:
    """Why this listener could not be opened, "" when it could."""
    kind = socket.SOCK_DGRAM if listen.transport == "udp" else socket.SOCK_STREAM
    for address in concrete(listen.address):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, kind) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if kind == socket.SOCK_STREAM:
                    # As the listener will: connections of an earlier run still close down.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, listen.port))
                if kind == socket.SOCK_STREAM:
                    probe.listen(1)
        except OSError as error:
            where = f" (on {address})" if address != listen.address else ""
            return f"[[listen]] {listen}{where}: {os.strerror(error.errno or 0)}; {_remedy(error.errno, listen)}"
    return ""


def http_problem(http: str) -> str:
    """Why the control API could not listen on this address and port, "" when it could."""
    address, port = place_of(http)
    listen = Listen(transport="tcp", address=address, port=port)
    problem = port_problem(listen)
    return problem.replace(f"[[listen]] {listen}", f"[api] http = {http}", 1)


def _remedy(number: int | None, listen: Listen) -> str:
    if number == errno.EADDRINUSE:
        return f"another program has it (ss -lnp 'sport = :{listen.port}' shows which); stop it or choose another port"
    if number == errno.EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher port or start as root"
    if number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return "an address of this host is wanted (ip address shows them), or 0.0.0.0 or :: for all"
    return "an address and a port this host can listen on are wanted"


def concrete(address: str) -> list[str]:
    """The numeric addresses of this host that `address` stands for: itself, or all of its family for a wildcard."""
    if address not in WILDCARDS:
        return [address]
    return sorted(local for local in local_addresses() if (":" in local) == (":" in address))
