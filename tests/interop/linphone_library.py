"""A small phone on liblinphone, the library that linphone's phones are made of (package linphone-cli brings it), for what
linphonec has no command: to subscribe to a package, and to say what its user does. All the SIP is linphone's own.

    python linphone_library.py linphonerc

Commands, a line each: `subscribe PACKAGE URI`, `presence ACTIVITY`, `quit`. It writes what the library hands to it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import select
import sys

#: Places in its list of activities (RFC 4480 s3.2), and the states of a subscription in its order.
_ACTIVITIES = {"away": 1, "busy": 3, "vacation": 24}
_SUBSCRIPTION = ("none", "in progress", "received", "pending", "active", "terminated", "failed", "expiring")
#: Seconds that it subscribes for, and milliseconds between two turns of the library.
_EXPIRES, _TURN = 600, 20

_NOTIFIED = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_SUBSCRIBED = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)


class Library:
    """The library's functions, each with its name, what it gives and what it takes."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("linphone")
        if name is None:
            raise FileNotFoundError("liblinphone is not installed (Debian: apt-get install linphone-cli)")
        library = ctypes.CDLL(name)
        handle, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p

        def function(name: str, gives: type | None, *takes: type) -> ctypes._NamedFuncPointer:
            found = library[f"linphone_{name}"]
            found.restype, found.argtypes = gives, takes
            return found

        self.factory = function("factory_get", handle)
        self.new_core = function("factory_create_core_3", handle, handle, text, text, handle)
        self.new_callbacks = function("factory_create_core_cbs", handle, handle)
        self.on_notify = function("core_cbs_set_notify_received", None, handle, _NOTIFIED)
        self.on_subscription = function("core_cbs_set_subscription_state_changed", None, handle, _SUBSCRIBED)
        self.add_callbacks = function("core_add_callbacks", None, handle, handle)
        self.start = function("core_start", number, handle)
        self.iterate = function("core_iterate", None, handle)
        self.stop = function("core_stop", None, handle)
        self.address = function("address_new", handle, text)
        self.subscribe = function("core_subscribe", handle, handle, handle, text, number, handle)
        self.text = function("content_get_utf8_text", text, handle)
        self.activity = function("presence_model_new_with_activity", handle, number, text)
        self.set_presence = function("core_set_presence_model", None, handle, handle)


def main(settings: str) -> None:
    """Runs until `quit`, or until nobody is left to command it."""
    library = Library()
    factory = library.factory()
    core = library.new_core(factory, settings.encode(), None, None)
    callbacks = library.new_callbacks(factory)

    def notified(_core: int, _event: int, package: bytes, content: int | None) -> None:
        body = library.text(content).decode() if content else ""
        print(f"{package.decode()}: {' | '.join(body.splitlines())}", flush=True)

    def subscribed(_core: int, _event: int, state: int) -> None:
        print(f"subscription {_SUBSCRIPTION[state]}", flush=True)

    kept = _NOTIFIED(notified), _SUBSCRIBED(subscribed)
    library.on_notify(callbacks, kept[0])
    library.on_subscription(callbacks, kept[1])
    library.add_callbacks(core, callbacks)
    library.start(core)
    command = ""
    while command != "quit":
        library.iterate(core)
        if not select.select([sys.stdin], [], [], _TURN / 1000)[0]:
            continue
        command, *words = (sys.stdin.readline() or "quit").split()
        if command == "subscribe":
            library.subscribe(core, library.address(words[1].encode()), words[0].encode(), _EXPIRES, None)
        elif command == "presence":
            library.set_presence(core, library.activity(_ACTIVITIES[words[0]], None))
    library.stop(core)


if __name__ == "__main__":
    main(sys.argv[1])
