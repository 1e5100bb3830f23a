"""Parameters and comma-separated lists of header values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.message.errors import MalformedMessage
from sipd.message.params import parse_params, quote, split_list, unquote
from tests.support.properties import check, hostile_text


class ParamsTests(TestCase):
    """parse_params, split_list, quote, unquote."""

    def test_read(self) -> None:
        """Names in lower case, values raw with their quotes; None without "=", white space around all of it."""
        cases: list[tuple[str, dict[str, str | None]]] = [
            ("", {}),
            (";tag=abc", {"tag": "abc"}),
            (";LR;Q=0.5", {"lr": None, "q": "0.5"}),
            (' ; a = b ;\r\n c="x;y,\\"z" ', {"a": "b", "c": '"x;y,\\"z"'}),
            (";a=", {"a": ""}),
            (";a=1;A=2", {"a": "1"}),
            (";received=2001:db8::1;x=[::1]", {"received": "2001:db8::1", "x": "[::1]"}),
            (';+sip.instance="<urn:uuid:0>"', {"+sip.instance": '"<urn:uuid:0>"'}),
        ]
        for text, params in cases:
            self.assertEqual(parse_params(text), params, text)

    def test_broken(self) -> None:
        """What is no list of parameters is refused."""
        for text in ("a", ";", ";;", ";a;;b", ";=a", ';a="b', ";a=b,c", ";a=<b>", ";a b", ";a==", ";\u00fc=1", ";a=b c"):
            self.assertRaises(MalformedMessage, parse_params, text)

    def test_split(self) -> None:
        """s7.3.1: commas in quotes and brackets separate nothing."""
        cases = [
            ("", [""]),
            (" a ", ["a"]),
            ("a,b ,\r\n c", ["a", "b", "c"]),
            ('"a,b" <sip:x,y>;p="q,r", <sip:z>', ['"a,b" <sip:x,y>;p="q,r"', "<sip:z>"]),
            ('"a\\",b", c', ['"a\\",b"', "c"]),
            ('"a\\\\", c', ['"a\\\\"', "c"]),
            (",,a", ["", "", "a"]),
            ('a, "b, c', ["a", '"b, c']),
            ('"\\', ['"\\']),
        ]
        for text, values in cases:
            self.assertEqual(split_list(text), values, text)

    def test_only_the_first(self) -> None:
        """Where one value is wanted the others are not looked at."""
        self.assertEqual(split_list('"a,b" <x,y> , c, "', 1), ['"a,b" <x,y>'])
        self.assertEqual(split_list("a", 1), ["a"])
        self.assertEqual(split_list("a,b,c", 2), ["a", "b"])

    def test_quotes(self) -> None:
        """Quoting and its undoing; what has no quotes stays."""
        self.assertEqual(unquote('"a\\"b\\\\"'), 'a"b\\')
        self.assertEqual(unquote("token"), "token")
        self.assertEqual(unquote('"'), '"')
        self.assertEqual(quote('a"b\\'), '"a\\"b\\\\"')

    @check
    @given(hostile_text)
    def test_only_malformed_escapes(self, text: str) -> None:
        """Hostile text is read or refused; splitting loses no octet but white space and commas."""
        try:
            parse_params(text)
        except MalformedMessage:
            pass
        strip = str.maketrans("", "", " \t\r\n,")
        self.assertEqual("".join(split_list(text)).translate(strip), text.translate(strip))

    @check
    @given(st.text())
    def test_quoting_is_undone(self, text: str) -> None:
        """unquote(quote(x)) is x, and the quoted text is one value of a list."""
        self.assertEqual(unquote(quote(text)), text)
        self.assertEqual(split_list(f"{quote(text)}, b"), [quote(text), "b"])

    def test_linear(self) -> None:
        """A megabyte of anything is read at once, not in the square of its length."""
        for piece in (" ", ";", ";a", '"', "\\", ",", "<", ";a=\"\\\\\"", "\t;"):
            text = piece * 200_000
            split_list(text)
            try:
                parse_params(text)
            except MalformedMessage:
                pass
