"""Where the fuzzer starts: an input for each thing that a client may do, and words that it can put into others."""

from collections.abc import Iterable

from hubbub.wire.deflate import compress
from hubbub.wire.frames import Opcode, close_payload
from hubbub.wire.mask import mask

_LIMIT_1000, _LIMIT_65536, _COMPRESSED, _FRAMED, _FEW_AT_ONCE = 6, 7, 0x10, 0x20, 0x40
_FIN, _RSV1 = 0x80, 0x40
_KEY = bytes.fromhex("37fa213d")
_Frame = tuple[int, bytes]

_STREAMS: tuple[tuple[_Frame, ...], ...] = (
    ((_FIN | Opcode.TEXT, "Hello, Wörld 🙂".encode()),),
    ((_FIN | Opcode.BINARY, b"\x00" * 200),),
    ((Opcode.TEXT, b"a\xc3"), (_FIN | Opcode.PING, b"?"), (0, b"\xa9"), (_FIN | Opcode.PONG, b""), (_FIN, b"b")),
    ((Opcode.BINARY, b""), (0, b""), (_FIN, b"end")),
    ((_FIN | Opcode.CLOSE, close_payload(1000, "bye")), (_FIN | Opcode.TEXT, b"late")),
    ((_FIN | Opcode.CLOSE, b""),),
    ((_FIN | Opcode.TEXT, b"\xf4\x90"),),
    ((_FIN | _RSV1 | Opcode.TEXT, compress(b"Hello " * 20)), (_FIN | Opcode.TEXT, b"plain")),
    ((_RSV1 | Opcode.BINARY, compress(b"Hello")[:3]), (_FIN, compress(b"Hello")[3:])),
    ((_FIN | _RSV1 | Opcode.BINARY, b"\x03\x00\x03\x00\x00"),),
    ((_FIN | _RSV1 | Opcode.BINARY, b"\x03\x00" * 65),),
    ((_FIN | _RSV1 | Opcode.BINARY, compress(bytes(2_000))),),
    ((_FIN | _RSV1 | Opcode.TEXT, b"\x00\x05\x00\xfa\xffHello\x00"),),
)

_HEAD = (
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n"
    b"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
_VALUES = (
    b"server.example.com:8000",
    b"websocket, h2c",
    b"keep-alive, Upgrade",
    b"dGhlIHNhbXBsZSBub25jZQ==",
    b"chat, superchat",
    b'permessage-deflate; server_max_window_bits="10"; client_max_window_bits, x-other;a=b',
    b"13",
)


def parser() -> Iterable[bytes]:
    """Return inputs of `fuzz.parser`: streams as frames and as bytes, with compression and without; large frames."""
    for frames in _STREAMS:
        for flags in (_LIMIT_1000, _LIMIT_1000 | _COMPRESSED | _FEW_AT_ONCE):
            yield bytes((flags | _FRAMED, 4, 0, 2)) + b"".join(
                bytes((first, len(payload))) + payload for first, payload in frames
            )
            yield bytes((flags, 0, 7, 30)) + b"".join(_frame(first, payload) for first, payload in frames)

    # 255 is a large frame: as large as is allowed, and larger in two.
    for large in (b"\x82\xffx", b"\x81\xff\xc3\xa9", b"\x01\xffx" + bytes(254) + b"\x80\x01x"):
        yield bytes((_LIMIT_65536 | _FRAMED | _FEW_AT_ONCE, 0, 132, 255)) + large


def handshake() -> Iterable[bytes]:
    """Return inputs of `fuzz.handshake`: a whole head, and a value for each header."""
    yield b"\x00" + _HEAD
    yield from (bytes((0x80 + index,)) + value for index, value in enumerate(_VALUES))


def words() -> Iterable[bytes]:
    """Return what an input may be made of: names and marks, which no one guesses byte by byte."""
    lines = _HEAD.split(b"\r\n")
    yield from (line.partition(b":")[0] + b":" for line in lines[1:-2])
    yield from (
        b"\r\n",
        b"\r\n\r\n",
        b"permessage-deflate",
        b"server_no_context_takeover",
        b"client_no_context_takeover",
    )
    yield from (b"server_max_window_bits=", b"client_max_window_bits", b"websocket", b"upgrade", b"HTTP/1.1", b"13")
    yield from (
        b"\xed\xa0",
        b"\xf4\x90",
        b"\x03\x00",
        b"\x00\x00\xff\xff",
        b"\x03\xe8",
        b"\xfe\x00\x7e",
        b"\xff" + bytes(8),
    )


def _frame(first: int, payload: bytes) -> bytes:
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes((first,)) + size + _KEY + mask(payload, _KEY)
