"""What the four machines share: their outputs.

A machine is pure. It takes an input (a message, a timer, a failure) and returns its outputs, which the layer performs
after the machine has settled. An output is a tuple of a kind and a payload.
"""

from __future__ import annotations

from typing import Any, Final

#: Send octets. Payload: bytes.
SEND: Final = 0
#: Hand a message to the user of the transaction. Payload: Message.
UP: Final = 1
#: Start a timer. Payload: (timer of sipd.transaction.timers, seconds).
START: Final = 2
#: Stop the repeating timer. Payload: None.
STOP_REPEAT: Final = 3
#: Stop the timer that ends a state. Payload: None.
STOP_DEADLINE: Final = 4
#: Tell the user that no answer will come. Payload: the reason, for people; "" for a timeout.
FAIL: Final = 5
#: The transaction is over. Payload: None.
END: Final = 6

Output = tuple[int, Any]
Outputs = tuple[Output, ...]

NOTHING: Final[Outputs] = ()
FINISH: Final[Outputs] = ((STOP_REPEAT, None), (STOP_DEADLINE, None), (END, None))
