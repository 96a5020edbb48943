"""What a client without manners does: each attack goes on until it is told to end, and notes how it was met."""

import errno
import select
import socket
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable
from multiprocessing.synchronize import Event

from .load import REQUEST, START_DEADLINE_S

Endings = Counter[str]
Attack = Callable[[int, str, Event, Endings], None]
"""What is given the server's port, a path, when to end, and where to count how the server has ended a connection."""

MILLIONS = 2_000_000
"""How many fragments a message of them has."""
HALF_OPEN = 10_000
UNANSWERED = 900
"""A hub lets 1,000 connections of one address in."""
AT_ONCE = 65_536
MASK = bytes(4)
EXTENSION = "Sec-WebSocket-Extensions: permessage-deflate\r\n"


def frame(first: int, payload: bytes = b"") -> bytes:
    """Return a client's frame, masked with zeros; `first` is its first byte (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([first]) + length + MASK + payload


def nothing(port: int, path: str, end: Event, endings: Endings) -> None:
    """Be there, and be silent."""
    with connect(port, path):
        end.wait()


def busy(port: int, path: str, end: Event, endings: Endings) -> None:
    """Send nothing, but use the core that an attack uses: what the measurement itself suffers from."""
    while not end.is_set():
        for _ in range(10_000):
            pass


def fragments(payload: bytes) -> Attack:
    """Return the attack of a message in two million fragments that never ends; then it hangs up and begins again."""

    def attack(port: int, path: str, end: Event, endings: Endings) -> None:
        while not end.is_set():
            flood(port, path, end, endings, frame(0x01, payload), frame(0x00, payload), MILLIONS)

    return attack


def flooding(first: int, payload: bytes) -> Attack:
    """Return the attack of one frame, again and again."""

    def attack(port: int, path: str, end: Event, endings: Endings) -> None:
        while not end.is_set():
            flood(port, path, end, endings, b"", frame(first, payload))

    return attack


def bombs(size: int) -> Attack:
    """Return the attack of compressed messages of so many bytes, a thousandth of that on the wire."""
    compressor = zlib.compressobj(9, wbits=-15)
    payload = compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return flooding(0xC2, payload.removesuffix(b"\x00\x00\xff\xff"))


def byte_by_byte(port: int, path: str, end: Event, endings: Endings) -> None:
    """Send messages of 60,000 bytes, each byte by itself."""
    message = frame(0x81, b"x" * 60_000)
    while not end.is_set():
        flood(port, path, end, endings, b"", message, chunk=1)


def flood(
    port: int,
    path: str,
    end: Event,
    endings: Endings,
    start: bytes,
    again: bytes,
    count: int | None = None,
    chunk: int = AT_ONCE,
) -> None:
    """Connect and send until the server ends the connection; read what it answers, and throw it away.

    Args:
        port: The server's.
        path: The endpoint's.
        end: When to stop.
        endings: Where to note how the server has ended it.
        start: What to send first.
        again: What to send again and again.
        count: How many times before it hangs up; without end where not given.
        chunk: Bytes of one `send`.
    """
    repeated = max(1, AT_ONCE // len(again))
    block, left = memoryview(again * repeated), count
    with connect(port, path) as client:
        pending, tail = memoryview(start), b""
        while not end.is_set():
            if not pending:
                if left is not None and left <= 0:
                    endings["not before all was sent"] += 1
                    return
                pending = block
                left = None if left is None else left - repeated
            readable, writable, _ = select.select([client], [client], [], 0.1)
            try:
                if readable:
                    received = client.recv(AT_ONCE)
                    tail = (tail + received)[-130:]
                    if not received:
                        endings[ending(tail)] += 1
                        return
                if writable:
                    pending = pending[client.send(pending[:chunk]) :]
            except ConnectionError:
                endings[f"{ending(tail)}, reset"] += 1
                return
        if said := close_in(tail):
            endings[f"{said}, not cut off yet"] += 1


def close_in(tail: bytes) -> str:
    """Return the code and the reason of the close frame that is the last that was received, if it is one."""
    for size in range(2, min(126, len(tail) - 1)):
        header, payload = tail[-size - 2 : -size], tail[-size:]
        if header == bytes([0x88, size]):
            return f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}".strip()
    return ""


def ending(tail: bytes) -> str:
    """Return how the server has ended a connection."""
    return close_in(tail) or "no close frame"


def silent_after_close(port: int, path: str, end: Event, endings: Endings) -> None:
    """Let many connections be closed by the server, answer none of the closes, and begin again."""
    while not end.is_set():
        clients = [connect(port, path) for _ in range(UNANSWERED) if not end.is_set()]
        until_all_are_gone(clients, end, endings)


def until_all_are_gone(clients: list[socket.socket], end: Event, endings: Endings) -> None:
    """Wait for the server to cut the connections off, and note how."""
    poll = select.poll()
    tails = {client.fileno(): (client, b"") for client in clients}
    for descriptor in tails:
        poll.register(descriptor, select.POLLIN)
    while tails and not end.is_set():
        for descriptor, _ in poll.poll(100):
            client, tail = tails[descriptor]
            try:
                received = client.recv(AT_ONCE)
            except ConnectionError:
                received = b""
            if received:
                tails[descriptor] = client, (tail + received)[-130:]
            else:
                endings[f"{ending(tail)}, cut off"] += 1
                poll.unregister(descriptor)
                del tails[descriptor]
    for client in clients:
        client.close()


def slowloris(port: int, path: str, end: Event, endings: Endings) -> None:
    """Keep 10,000 handshakes half open, and send a byte a second on each."""
    head = REQUEST.format(path=path).encode()
    waiting: deque[tuple[float, int, socket.socket]] = deque()  # when the next byte is due, which one it is
    while not end.is_set():
        now = time.monotonic()
        if waiting and waiting[0][0] <= now:
            _, index, client = waiting.popleft()
            if dribble(client, head[index : index + 1], endings):
                waiting.append((now + 1.0, (index + 1) % (len(head) - 4), client))
        elif len(waiting) < HALF_OPEN:
            waiting.append((now + 1.0, 1, begin(port)))
        else:
            time.sleep(0.001)
    for _, _, client in waiting:
        client.close()


def begin(port: int) -> socket.socket:
    """Open a connection and send the first byte of a request."""
    client = socket.create_connection(("127.0.0.1", port), START_DEADLINE_S)
    client.send(b"G")
    client.setblocking(False)
    return client


def dribble(client: socket.socket, byte: bytes, endings: Endings) -> bool:
    """Send a byte and return whether the server still listens; if it does not, note how it has answered."""
    try:
        answer = client.recv(AT_ONCE)
    except BlockingIOError:
        answer = None
    except ConnectionError as error:
        answer = errno.errorcode[error.errno or 0].encode()
    if answer is None:
        client.send(byte)
        return True
    endings[answer.partition(b"\r\n")[0].decode() or "closed without an answer"] += 1
    client.close()
    return False


def connect(port: int, path: str) -> socket.socket:
    """Open a WebSocket that sends at once what it is given, with compression where the server has it."""
    client = socket.create_connection(("127.0.0.1", port), START_DEADLINE_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(REQUEST.format(path=path).removesuffix("\r\n").encode() + EXTENSION.encode() + b"\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError(f"{path} answers {head!r}")
    client.setblocking(False)
    return client
