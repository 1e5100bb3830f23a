"""The other end of the control socket: what sipctl and scripts ask a running server with. Blocks; needs no Twisted."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Generator
from typing import Any

from sipd.admin.api import REQUEST_LIMIT, Refused
from sipd.admin.control_socket import short_path

#: Bytes of an answer, and seconds to wait for it: a phone that is asked may be silent for 32 (timer F).
ANSWER_LIMIT, PATIENCE = 67108864, 40.0


class NoServer(Exception):
    """Nobody answers on the control socket; the text says where it was looked for."""


def ask(path: str, command: str, **arguments: Any) -> Any:
    """The result of one command from the server whose socket is `path`. Raises Refused with the server's reason, and
    NoServer."""
    with contextlib.closing(follow(path, command, **arguments)) as answers:
        return next(answers)


def follow(path: str, command: str, **arguments: Any) -> Generator[Any, None, None]:
    """As `ask`, with what follows of an answer that goes on; ends when the server ends it."""
    request = json.dumps({"command": command, **arguments}).encode("ascii") + b"\n"
    if len(request) > REQUEST_LIMIT:
        raise Refused("the request is too long")
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.settimeout(PATIENCE)
            _connect(connection, path)
            connection.sendall(request)
            lines = stack.enter_context(connection.makefile("rb"))
            line = lines.readline(ANSWER_LIMIT)
        except OSError as error:
            raise NoServer(f"no server answers on {path}: {error.strerror or error}")
        if not line.endswith(b"\n"):
            raise NoServer(f"the server on {path} went away before it answered")
        answer = json.loads(line)
        if not answer.get("ok"):
            raise Refused(str(answer.get("error")), str(answer.get("kind", "")), answer.get("errors", ()))
        yield answer.get("result")
        connection.settimeout(None)
        while (line := lines.readline(ANSWER_LIMIT)).endswith(b"\n"):
            yield json.loads(line)


def _connect(connection: socket.socket, path: str) -> None:
    """Connects to a socket however long its path is."""
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    try:
        connection.connect(short_path(directory, path))
    finally:
        os.close(directory)
