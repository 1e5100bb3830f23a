"""Fragments of RFC 3261 s25.1 under the RFC's names, as regular expressions over str.

Deviations, all on the side of what phones send: a host may hold `_`; a user part may hold any character that cannot
end it (the RFC wants others than its `user-unreserved` escaped); a display name without quotes may hold any character
that cannot start a quoted string, a list or a URI. Values are matched stripped. No fragment can match one text in two
ways, so that reading stays linear whatever is sent.
"""

from __future__ import annotations

import re
from typing import Final

TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]+"
QUOTED_STRING: Final = r'"(?:[^"\\]|\\[\x00-\x7f])*"'
IPV6_REFERENCE: Final = r"\[[0-9A-Fa-f:.]+\]"
HOST: Final = rf"(?:[A-Za-z0-9._\-]+|{IPV6_REFERENCE})"
SWS: Final = r"[ \t\r\n]*"

host: Final = re.compile(HOST)

#: user [":" password] "@": no white space, brackets, quotes or controls; "@" ends it.
user: Final = re.compile(r"[^\x00-\x20<>\"@:\x7f]+")
password: Final = re.compile(r"[^\x00-\x20<>\"@\x7f]*")
port: Final = re.compile(r"[0-9]{1,5}")
#: One uri-parameter: pname ["=" pvalue] (s25.1 paramchar, "[", "]", "/", ":", "&", "+" and "$" included).
uri_parameter: Final = re.compile(r"([^\x00-\x20<>\";?@=,\x7f]+)(?:=([^\x00-\x20<>\";?@=\x7f]+))?")
uri_headers: Final = re.compile(r"[^\x00-\x20<>\"@\x7f]*")
scheme: Final = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*")
#: What follows the scheme of a URI that is not SIP: no white space, brackets, quotes or controls (s7.1).
opaque: Final = re.compile(r"[^\x00-\x20<>\"\x7f]+")

#: name-addr with its header parameters: display name in quotes or not, URI, parameters.
name_addr: Final = re.compile(
    rf'(?:({QUOTED_STRING}){SWS}|([^"<>,;:@]*))<([^<>" \t\r\n]+)>{SWS}(;.*)?', re.DOTALL)
#: addr-spec outside brackets: "," "?" and ";" end the URI, ";" begins header parameters (s20.10).
addr_spec: Final = re.compile(rf'{SWS}([^<>"?,; \t\r\n]+){SWS}(;.*)?', re.DOTALL)

#: sent-protocol LWS sent-by (s20.42), what stands before the parameters.
via: Final = re.compile(
    rf"SIP{SWS}/{SWS}[0-9]+\.[0-9]+{SWS}/{SWS}({TOKEN})[ \t\r\n]+({HOST}){SWS}(?::{SWS}([0-9]{{1,5}}){SWS})?",
    re.IGNORECASE | re.ASCII)

#: generic-param: ";" name [ "=" token / host / quoted-string ].
generic_param: Final = re.compile(
    rf'{SWS};{SWS}({TOKEN}){SWS}(?:={SWS}({QUOTED_STRING}|[^;,"<>= \t\r\n][^;,"<> \t\r\n]*)?{SWS})?', re.DOTALL)
