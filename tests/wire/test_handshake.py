"""The server's side of the handshake: each fault is an HTTP status and a reason, and nothing else is ever raised."""

import contextlib
from http import HTTPStatus

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hubbub.wire.handshake import (
    ExtensionOffer,
    Opening,
    Rejected,
    Request,
    accept_key,
    is_field,
    open_handshake,
    parse_head,
)

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HEADERS = (
    (b"host", b"server.example.com"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", KEY),
    (b"origin", b"http://example.com"),
    (b"sec-websocket-protocol", b"chat, superchat"),
    (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits"),
    (b"sec-websocket-version", b"13"),
)
HEAD = b"GET /chat HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % field for field in HEADERS) + b"\r\n"


def request(name: bytes = b"", *values: bytes) -> Request:
    """Return a valid request whose header `name` has these values instead."""
    others = tuple(field for field in HEADERS if field[0] != name)
    return Request(b"GET", b"/chat", b"HTTP/1.1", (*others, *((name, value) for value in values)))


def rejection(asked: Request) -> Rejected:
    with pytest.raises(Rejected) as caught:
        open_handshake(asked)
    return caught.value


def opened(head: bytes) -> Opening | None:
    """Handle a head as the server does: `None` if it is rejected."""
    try:
        return open_handshake(parse_head(head))
    except Rejected as rejected:
        fault = rejected
    assert fault.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UPGRADE_REQUIRED)
    assert fault.reason
    return None


# The head


def test_a_head_is_read_into_its_parts() -> None:
    assert parse_head(HEAD) == Request(b"GET", b"/chat", b"HTTP/1.1", HEADERS)


def test_a_head_may_have_no_headers() -> None:
    assert parse_head(b"GET / HTTP/1.1\r\n\r\n").headers == ()


def test_names_are_lowered_and_values_stripped() -> None:
    head = b"GET / HTTP/1.1\r\nX-Name:\t Value with \xe9 \t\r\nempty:\r\nX-NAME:again:\r\n\r\n"
    read = parse_head(head)
    assert read.headers == ((b"x-name", b"Value with \xe9"), (b"empty", b""), (b"x-name", b"again:"))
    assert read.all(b"x-name") == [b"Value with \xe9", b"again:"]
    assert read.all(b"absent") == []


@pytest.mark.parametrize(
    "line",
    [b"", b"GET /", b"GET / HTTP/1.1 x", b"GET  / HTTP/1.1", b" / HTTP/1.1", b"G(T / HTTP/1.1", b"GET /\xe9 HTTP/1.1"],
)
def test_a_malformed_request_line_is_rejected(line: bytes) -> None:
    with pytest.raises(Rejected, match="400: the request line is malformed"):
        parse_head(line + b"\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"no colon",
        b": no name",
        b"space : x",
        b" folded: x",
        b"na\xefme: x",
        b"x: \x00",
        b"x: a\rb",
        b"x: a\nb: c",
        b"x: \x7f",
        b"",
    ],
)
def test_a_malformed_header_is_rejected(line: bytes) -> None:
    with pytest.raises(Rejected, match="400: a header is malformed"):
        parse_head(b"GET / HTTP/1.1\r\nhost: a\r\n" + line + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        (b"x-name", b"value", True),
        (b"!#$%&'*+-.^_`|~09AZaz", b"", True),
        (b"x", b" inner \t space \xe9 ", True),
        (b"", b"x", False),
        (b"x y", b"x", False),
        (b"x:", b"x", False),
        (b"x\r\n", b"x", False),
        (b"x\n", b"x", False),
        (b"na\xefme", b"x", False),
        (b"x", b"a\r\nset-cookie: b", False),
        (b"x", b"a\n", False),
        (b"x", b"a\rb", False),
        (b"x", b"\x00", False),
        (b"x", b"\x7f", False),
    ],
)
def test_a_field_is_a_token_and_a_value_without_control_characters(name: bytes, value: bytes, fits: bool) -> None:
    assert is_field(name, value) is fits


@UNTIMED
@given(st.binary(max_size=20) | st.text("abc-:\r\n").map(str.encode), st.binary(max_size=20))
def test_what_is_a_field_comes_out_of_a_head_as_it_went_in(name: bytes, value: bytes) -> None:
    """So that nobody can slip a second header into an answer."""
    if is_field(name, value):
        assert parse_head(b"GET / HTTP/1.1\r\n%b: %b\r\n\r\n" % (name, value)).headers == (
            (name.lower(), value.strip(b" \t")),
        )


# A handshake


def test_the_key_of_section_1_3_has_its_answer() -> None:
    assert accept_key(KEY) == ACCEPT


def test_the_handshake_of_section_1_2_is_accepted() -> None:
    offer = ExtensionOffer("permessage-deflate", (("client_max_window_bits", None),))
    assert opened(HEAD) == Opening(ACCEPT, ("chat", "superchat"), (offer,))


def test_what_is_optional_may_be_absent() -> None:
    needed = tuple(
        field for field in HEADERS if field[0] not in (b"sec-websocket-protocol", b"sec-websocket-extensions")
    )
    assert open_handshake(Request(b"GET", b"/", b"HTTP/1.1", needed)) == Opening(ACCEPT, (), ())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (b"upgrade", (b"h2c, WebSocket",)),
        (b"upgrade", (b"h2c", b"websocket")),
        (b"connection", (b"keep-alive, UPGRADE",)),
        (b"connection", (b", keep-alive,", b"\tupgrade ,")),
    ],
)
def test_lists_may_hold_more_in_any_case_and_over_several_headers(name: bytes, values: tuple[bytes, ...]) -> None:
    assert open_handshake(request(name, *values)).accept == ACCEPT


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request()._replace(method=b"POST"), "a WebSocket handshake is a GET request"),
        (request()._replace(method=b"get"), "a WebSocket handshake is a GET request"),
        (request()._replace(version=b"HTTP/1.0"), "a WebSocket handshake needs HTTP/1.1"),
        (request()._replace(version=b"HTTP/2"), "a WebSocket handshake needs HTTP/1.1"),
        (request(b"host"), "there must be one Host header"),
        (request(b"host", b"a", b"b"), "there must be one Host header"),
        (request(b"upgrade"), "the Upgrade header does not ask for websocket"),
        (request(b"upgrade", b"websockets"), "the Upgrade header does not ask for websocket"),
        (request(b"connection"), "the Connection header does not ask for an upgrade"),
        (request(b"connection", b"keep-alive"), "the Connection header does not ask for an upgrade"),
        (request(b"sec-websocket-key"), "there must be one Sec-WebSocket-Key header"),
        (request(b"sec-websocket-key", KEY, KEY), "there must be one Sec-WebSocket-Key header"),
        *(
            (request(b"sec-websocket-key", key), "the Sec-WebSocket-Key header must be 16 bytes in base64")
            for key in (b"", b"x", b"\xe9" * 24, KEY[:-1], KEY + b"=", KEY[:4], KEY[:4] + b" " + KEY[4:], b"A" * 24)
        ),
        *(
            (request(b"sec-websocket-protocol", *names), "the Sec-WebSocket-Protocol header must list different tokens")
            for names in ((b"a, a",), (b"a", b"a"), (b"a b",), (b"caf\xe9",), (b'"a"',))
        ),
        *(
            (request(b"sec-websocket-extensions", *values), "the Sec-WebSocket-Extensions header is malformed")
            for values in (
                (b";",),
                (b"; a",),
                (b"a b",),
                (b"a;",),
                (b"a; b c",),
                (b"a; =1",),
                (b"a; b=",),
                (b"a; b=c d",),
                (b'a; b=""',),
                (b'a; b="c',),
                (b'a; b=c"',),
                (b'a; b="c,d"',),
                (b"a; b=1=2",),
                (b"\xe9",),
                (b"a; \xe9",),
                (b"a",) * 17,
            )
        ),
    ],
    ids=lambda value: (
        None if isinstance(value, str) else f"{value.method} {value.version} {len(value.headers)} {value.headers[-1]}"
    ),
)
def test_each_fault_is_a_bad_request_that_says_what_is_wrong(asked: Request, reason: str) -> None:
    rejected = rejection(asked)
    assert (rejected.status, rejected.reason, rejected.headers) == (HTTPStatus.BAD_REQUEST, reason, ())
    assert str(rejected) == f"400: {reason}"


@pytest.mark.parametrize("values", [(), (b"",), (b"8",), (b"013",), (b"14",), (b"13, 8",), (b"13", b"13"), (b"\xe9",)])
def test_another_version_is_told_which_one_is_spoken(values: tuple[bytes, ...]) -> None:
    rejected = rejection(request(b"sec-websocket-version", *values))
    assert rejected.status == HTTPStatus.UPGRADE_REQUIRED
    assert rejected.headers == ((b"sec-websocket-version", b"13"),)


@pytest.mark.parametrize(
    ("value", "offers"),
    [
        (b'A ;B = c; d="e" ;f, ,g;h = "i"', [("a", (("b", "c"), ("d", "e"), ("f", None))), ("g", (("h", "i"),))]),
        (b"x;p;p=1, x", [("x", (("p", None), ("p", "1"))), ("x", ())]),
        (b", ,", []),
        (b",".join([b"a"] * 16), [("a", ())] * 16),
    ],
)
def test_extensions_are_read_in_order_with_their_parameters(value: bytes, offers: list[object]) -> None:
    assert list(open_handshake(request(b"sec-websocket-extensions", value)).extensions) == offers


# Garbage


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00", b"\xff", b"\r\n", b"\n", b":", b",", b";", b"=", b'"', b" ", b"9" * 5_000]
)
def test_garbage_in_any_position_is_rejected_or_harmless(garbage: bytes) -> None:
    for position in range(len(HEAD) + 1):
        opened(HEAD[:position] + garbage + HEAD[position:])
        opened(HEAD[:position] + garbage + HEAD[position + 1 :])
        opened(HEAD[:position] + garbage)


@UNTIMED
@given(st.binary(max_size=200))
@example(b"GET / HTTP/1.1")
@example(b"\r\n\r\n")
def test_any_bytes_are_rejected(head: bytes) -> None:
    assert opened(head) is None


@UNTIMED
@given(st.integers(0, len(HEADERS) - 1), st.binary(max_size=100) | st.text('abc,;="\t é9').map(str.encode))
def test_any_value_of_any_header_is_rejected_or_accepted(index: int, value: bytes) -> None:
    headers = list(HEADERS)
    headers[index] = (headers[index][0], value)
    opened(b"GET / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % field for field in headers) + b"\r\n")


@pytest.mark.parametrize("name", [b"sec-websocket-extensions", b"sec-websocket-protocol", b"connection", b"upgrade"])
@pytest.mark.parametrize(
    "unit", [b",", b";", b" ", b"\t ", b"a;", b"a,", b"a=", b"a ", b'"', b'a="', b"a;b=c;", b"a = "]
)
def test_a_hostile_list_is_dealt_with_in_one_pass(name: bytes, unit: bytes) -> None:
    """In quadratic time this would take minutes, and meet the deadline that every test has."""
    with contextlib.suppress(Rejected):
        open_handshake(request(name, b"a;" + unit * (1_000_000 // len(unit))))


def test_an_extension_with_many_parameters_is_read_once() -> None:
    value = b"permessage-deflate" + b"; p=1" * 50_000
    (offer,) = open_handshake(request(b"sec-websocket-extensions", value)).extensions
    assert len(offer.parameters) == 50_000
