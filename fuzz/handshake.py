"""Target: whatever the head of a request is, it is accepted with a sound answer or `Rejected`.

An input is one byte and a head or, where that byte is 128 or more, the value of one header in an otherwise valid head.
"""

import re
import sys

import atheris

with atheris.instrument_imports(include=["hubbub"]):
    from hubbub.wire.deflate import compress, negotiate
    from hubbub.wire.handshake import Opening, Rejected, Request, open_handshake, parse_head

HEADERS = (
    (b"host", b"server.example.com"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"sec-websocket-protocol", b"chat"),
    (b"sec-websocket-extensions", b"permessage-deflate"),
    (b"sec-websocket-version", b"13"),
)
ONE_VALUE = 0x80
EXTENSIONS = [name for name, _ in HEADERS].index(b"sec-websocket-extensions")
PRINTABLE = re.compile(r"[ -~]+")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def check(data: bytes) -> None:
    """Handle the input as the server does: any exception is a finding."""
    head = _head(data)
    try:
        request = parse_head(head)
        opening = open_handshake(request)
    except Rejected as rejected:
        _check_answer(rejected)
        return
    _check_request(request)
    _check_opening(opening)
    _check_extension(opening)


def _head(data: bytes) -> bytes:
    if not data or data[0] < ONE_VALUE:
        return data[1:]
    return _head_with((data[0] - ONE_VALUE) % len(HEADERS), data[1:])


def _head_with(index: int, value: bytes) -> bytes:
    """Return a valid head with another value in one header."""
    headers = [*HEADERS[:index], (HEADERS[index][0], value), *HEADERS[index + 1 :]]
    return b"GET / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"


def _check_answer(rejected: Rejected) -> None:
    """The answer has a status for clients, and nothing of the request."""
    assert rejected.status in (400, 426), rejected.status
    assert PRINTABLE.fullmatch(rejected.reason), rejected.reason
    assert bool(rejected.headers) == (rejected.status == 426), rejected.headers


def _check_request(request: Request) -> None:
    """No header reaches an application with a line end in it, or anything else that could be two headers."""
    for name, value in request.headers:
        assert TOKEN.fullmatch(name.decode("ascii")), name
        assert name == name.lower(), name
        assert not re.search(rb"[\0\r\n]", value), value


def _check_opening(opening: Opening) -> None:
    assert len(opening.accept) == 28, opening.accept
    assert len(set(opening.subprotocols)) == len(opening.subprotocols), opening.subprotocols
    assert all(map(TOKEN.fullmatch, opening.subprotocols)), opening.subprotocols
    assert len(opening.extensions) <= 16, f"{len(opening.extensions)} extensions"


def _check_extension(opening: Opening) -> None:
    """What is negotiated can be said in a header, is what a client could offer, and can be served."""
    negotiated = negotiate(opening.extensions)
    if negotiated is None:
        return
    answer, bits = negotiated
    assert PRINTABLE.fullmatch(answer.decode("ascii")), answer
    (same,) = open_handshake(parse_head(_head_with(EXTENSIONS, answer))).extensions
    assert negotiate([same]) == negotiated, answer
    assert compress(b"", bits)


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
