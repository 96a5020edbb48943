"""Any split of valid frames parses alike; whatever else comes ends in a close code, at once and within bounds."""

import itertools
import tracemalloc
import weakref
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hubbub.wire.deflate import Inflater, compress
from hubbub.wire.frames import Opcode, close_payload
from hubbub.wire.mask import mask
from hubbub.wire.parser import Closed, Event, Parser, Ping, Pong

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION
CLOSE, PING, PONG = Opcode.CLOSE, Opcode.PING, Opcode.PONG
KEY = bytes.fromhex("37fa213d")
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
MASKED = 0x80


def head(first: int, size: int) -> bytes:
    """Return a client's frame up to its payload."""
    if size < 126:
        return bytes((first, MASKED | size)) + KEY
    if size < 65_536:
        return bytes((first, MASKED | 126)) + size.to_bytes(2, "big") + KEY
    return bytes((first, MASKED | 127)) + size.to_bytes(8, "big") + KEY


def sent(opcode: int, payload: bytes = b"", bits: int = FIN) -> bytes:
    """Return a frame as a client sends it."""
    return head(bits | opcode, len(payload)) + mask(payload, KEY)


def parse(*parts: bytes, parser: Parser | None = None) -> tuple[list[Event], tuple[int, str] | None]:
    """Feed the parts and return all events and the fault."""
    parser = Parser() if parser is None else parser
    events = [event for part in parts for event in parser.feed(part)]
    return events, None if parser.fault is None else (parser.fault.code, parser.fault.reason)


def single_bytes(data: bytes) -> Iterable[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


def compressing(**limits: int) -> Parser:
    return Parser(inflater=Inflater(), **limits)


# Valid frames


@pytest.mark.parametrize(
    ("frames", "event"),
    [
        ("818537fa213d7f9f4d5158", "Hello"),
        ("898537fa213d7f9f4d5158", Ping(b"Hello")),
        ("8a8537fa213d7f9f4d5158", Pong(b"Hello")),
        ("018337fa213d7f9f4d 808237fa213d5b95", "Hello"),
    ],
)
def test_the_examples_of_section_5_7_are_read(frames: str, event: Event) -> None:
    data = bytes.fromhex(frames)
    assert parse(data) == ([event], None)
    assert parse(*single_bytes(data)) == ([event], None)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_each_form_of_length_is_read(size: int) -> None:
    payload = bytes(index & 0xFF for index in range(size))
    data = sent(BINARY, payload)
    assert parse(data) == ([payload], None)
    assert parse(data[:5], data[5:15], data[15:]) == ([payload], None)


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536])
def test_a_large_message_is_read_wherever_its_first_part_ends(size: int) -> None:
    """Also where that part is as long as a whole frame with the first byte of the length for its length (127)."""
    payload = bytes(index & 0x7F for index in range(size))
    for opcode, message in ((BINARY, payload), (TEXT, payload.decode())):
        data = sent(opcode, payload)
        for end in range(140):
            assert parse(data[:end], data[end:]) == ([message], None)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_an_empty_message_is_a_message(opcode: Opcode) -> None:
    empty = "" if opcode == TEXT else b""
    assert parse(sent(opcode)) == ([empty], None)
    assert parse(sent(opcode, bits=0) + sent(CONTINUATION, bits=0) + sent(CONTINUATION)) == ([empty], None)


def test_control_frames_may_stand_between_fragments() -> None:
    data = sent(TEXT, b"a\xc3", 0) + sent(PING, b"1") + sent(CONTINUATION, b"\xa9", 0) + sent(PONG) + sent(CONTINUATION)
    assert parse(data) == ([Ping(b"1"), Pong(b""), "aé"], None)
    assert parse(*single_bytes(data)) == ([Ping(b"1"), Pong(b""), "aé"], None)


@pytest.mark.parametrize("bits", [RSV1 | FIN, RSV1])
def test_a_compressed_message_of_section_7_2_3_1_is_read(bits: int) -> None:
    hello = bytes.fromhex("f248cdc9c90700")
    data = sent(TEXT, hello[:3], RSV1) + sent(CONTINUATION, hello[3:]) if bits == RSV1 else sent(TEXT, hello, bits)
    assert parse(data, parser=compressing()) == (["Hello"], None)
    assert parse(*single_bytes(data), parser=compressing()) == (["Hello"], None)


def test_whoever_may_compress_need_not() -> None:
    data = sent(TEXT, b"plain") + sent(TEXT, compress(b"packed"), RSV1 | FIN) + sent(BINARY, compress(b""), RSV1 | FIN)
    assert parse(data, parser=compressing()) == (["plain", "packed", b""], None)


def test_a_parser_is_idle_only_between_messages() -> None:
    parser = Parser()
    idle = []
    for part in (b"", b"\x01", sent(TEXT, b"ab", 0)[1:-1], sent(TEXT, b"ab", 0)[-1:], sent(PING), sent(CONTINUATION)):
        parser.feed(part)
        idle.append(parser.is_idle)
    assert idle == [True, False, False, False, False, True]


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
CONTROL = st.sampled_from([PING, PONG]).flatmap(
    lambda opcode: st.binary(max_size=125).map(
        lambda payload: (sent(opcode, payload), (Ping if opcode == PING else Pong)(payload))
    )
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """One message in fragments, with control frames between them, and what it should be parsed to."""
    message = draw(TEXTS | st.binary(max_size=400))
    opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
    bits = 0
    if draw(st.booleans()):
        payload, bits = compress(payload), RSV1
    pieces = cut(payload, draw(CUTS))
    data, events = b"", []
    for index, piece in enumerate(pieces):
        for frame, event in draw(st.lists(CONTROL, max_size=2)):
            data += frame
            events.append(event)
        final = FIN if index == len(pieces) - 1 else 0
        data += sent(CONTINUATION, piece, final) if index else sent(opcode, piece, bits | final)
    return data, [*events, message]


CUTS = st.lists(st.integers(0, 2_000), max_size=6)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@UNTIMED
@given(st.lists(messages(), max_size=4), CUTS, st.none() | st.just(Closed(4000, "bye")))
def test_any_split_of_any_valid_stream_parses_alike(
    stream: list[tuple[bytes, list[Event]]], places: list[int], closed: Closed | None
) -> None:
    data = b"".join(frames for frames, _ in stream)
    expected = [event for _, events in stream for event in events]
    if closed is not None:
        data += sent(CLOSE, close_payload(*closed))
        expected.append(closed)
    for parts in ([data], cut(data, places), single_bytes(data)):
        assert parse(*parts, parser=compressing(max_bytes=1_000, max_fragments=7)) == (expected, None)


# Garbage


@UNTIMED
@given(st.binary(max_size=100), CUTS, st.booleans())
@example(b"", [], False)
def test_any_garbage_ends_in_a_close_code_or_in_nothing(data: bytes, places: list[int], compressed: bool) -> None:
    limits = {"max_bytes": 50, "max_fragments": 2}
    make = compressing if compressed else Parser
    whole, fault = parse(data, parser=make(**limits))
    assert fault is None or fault[0] in (1002, 1007, 1008, 1009)
    events, fault_in_parts = parse(*cut(data, places), parser=make(**limits))
    assert (events, fault_in_parts is None) == (whole, fault is None)
    assert compressed or fault_in_parts == fault


FIRST_BYTES = st.builds(int.__or__, st.sampled_from([0, FIN, RSV1, FIN | RSV1]), st.sampled_from(Opcode))


@UNTIMED
@given(st.lists(st.tuples(FIRST_BYTES, st.binary(max_size=130) | TEXTS.map(str.encode)), max_size=6), CUTS)
def test_any_frames_end_at_the_same_place_however_they_are_split(
    frames: list[tuple[int, bytes]], places: list[int]
) -> None:
    data = b"".join(sent(0, payload, first) for first, payload in frames)
    ends = [
        parse(*parts, parser=compressing(max_bytes=200, max_fragments=2))
        for parts in ([data], cut(data, places), single_bytes(data))
    ]
    # Of two faults in one compressed frame, the first to be seen depends on what has come of it.
    assert [(events, fault is None) for events, fault in ends] == [(ends[0][0], ends[0][1] is None)] * 3
    assert {fault[0] for _, fault in ends if fault is not None} <= {1002, 1007, 1008, 1009}


# Faults in a header, known before the payload has come

OPEN = sent(TEXT, b"begun", 0)
BAD_HEADERS = [
    ("unmasked", b"\x81\x05", "a frame that is not masked"),
    *((f"opcode {opcode}", bytes((FIN | opcode, MASKED)), "an unknown opcode") for opcode in (3, 4, 5, 6, 7)),
    *((f"opcode {opcode}", bytes((FIN | opcode, MASKED)), "an unknown opcode") for opcode in (11, 12, 13, 14, 15)),
    *(
        (f"reserved {bit:#x} {opcode.name}", head(FIN | bit | opcode, 0)[:2], "a reserved bit")
        for bit in (RSV1, RSV2, RSV3, RSV1 | RSV2)
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
    ),
    ("reserved bit of a continuation", OPEN + bytes((FIN | RSV1, MASKED)), "a reserved bit"),
    *(
        (f"fragmented {opcode.name}", bytes((opcode, MASKED)), "a control frame that is fragmented or too long")
        for opcode in (CLOSE, PING, PONG)
    ),
    *(
        (f"long {opcode.name}", bytes((FIN | opcode, MASKED | 126)), "a control frame that is fragmented or too long")
        for opcode in (CLOSE, PING, PONG)
    ),
    ("huge ping", bytes((FIN | PING, MASKED | 127)), "a control frame that is fragmented or too long"),
    ("continuation of nothing", bytes((FIN, MASKED)), "a fragment out of turn"),
    ("message within a message", OPEN + bytes((FIN | BINARY, MASKED)), "a fragment out of turn"),
    *(
        (f"length {form}", bytes((FIN | BINARY,)) + bytes.fromhex(form), "a length that is not in its shortest form")
        for form in ("fe0000", "fe007d", "ff0000000000000000", "ff000000000000ffff")
    ),
    ("length with the top bit", bytes.fromhex("82ff8000000000000000"), "a length that is not in its shortest form"),
]


@pytest.mark.parametrize(("data", "reason"), [bad[1:] for bad in BAD_HEADERS], ids=[bad[0] for bad in BAD_HEADERS])
def test_a_bad_header_is_a_protocol_error_with_its_last_byte(data: bytes, reason: str) -> None:
    assert parse(sent(TEXT, b"before") + data) == (["before"], (1002, reason))
    assert parse(data[:-1])[1] is None
    assert parse(*single_bytes(data))[1] == (1002, reason)


@pytest.mark.parametrize("first", [FIN | RSV1 | PING, FIN | RSV2 | TEXT, FIN | RSV1 | RSV3 | TEXT])
def test_compression_allows_its_own_bit_on_messages_only(first: int) -> None:
    assert parse(bytes((first, MASKED)), parser=compressing())[1] == (1002, "a reserved bit")


def test_compression_is_marked_on_the_first_fragment_only() -> None:
    data = sent(TEXT, b"", RSV1) + sent(CONTINUATION, b"", RSV1)
    assert parse(data, parser=compressing()) == ([], (1002, "a reserved bit"))


# Limits


@pytest.mark.parametrize("make", [Parser, compressing])
@pytest.mark.parametrize("size", [101, 126, 65_536, 2**63 - 1])
def test_a_message_that_is_too_large_is_refused_before_its_payload(make: type[Parser], size: int) -> None:
    data = head(FIN | BINARY, size)[:-4]
    assert parse(data, parser=make(max_bytes=100)) == ([], (1009, "message_bytes"))


def test_fragments_count_together_before_the_last_payload() -> None:
    begun = sent(BINARY, b"x" * 60, 0) + sent(PING, b"y" * 125) + sent(CONTINUATION, b"x" * 40, 0)
    whole = [Ping(b"y" * 125), b"x" * 100]
    assert parse(begun + sent(CONTINUATION), parser=Parser(max_bytes=100)) == (whole, None)
    assert parse(begun + head(FIN, 1)[:2], parser=Parser(max_bytes=100)) == (whole[:1], (1009, "message_bytes"))


def test_a_message_may_be_exactly_as_large_as_the_limit() -> None:
    assert parse(sent(BINARY, b"x" * 100), parser=Parser(max_bytes=100)) == ([b"x" * 100], None)
    assert parse(sent(TEXT, "é".encode() * 51), parser=Parser(max_bytes=100)) == ([], (1009, "message_bytes"))


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("memory", [1, 9])
def test_a_message_at_the_limit_may_be_larger_compressed(level: int, memory: int) -> None:
    payload = bytes(index * index * 31 >> 3 & 0xFF for index in range(65_536))
    compressor = zlib.compressobj(level, wbits=-15, memLevel=memory, strategy=zlib.Z_HUFFMAN_ONLY)
    data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    parser = compressing(max_bytes=65_536)
    assert parse(sent(BINARY, data, FIN | RSV1), parser=parser) == ([payload], None)
    assert parse(sent(BINARY, data[:50_000], RSV1) + sent(CONTINUATION, data[50_000:]), parser=parser)[1] is None


def test_a_compressed_message_that_decompresses_to_too_much_is_refused() -> None:
    bomb = compress(bytes(10_000_000))
    for data in (sent(BINARY, bomb, FIN | RSV1), sent(BINARY, bomb[:5_000], RSV1) + sent(CONTINUATION, bomb[5_000:])):
        assert parse(data, parser=compressing(max_bytes=65_536)) == ([], (1009, "message_bytes"))


def test_corrupt_compressed_data_is_a_protocol_error() -> None:
    assert parse(sent(TEXT, b"\xff\xff", FIN | RSV1), parser=compressing()) == ([], (1002, "not deflate data"))


def test_one_fragment_too_many_is_refused_by_its_header() -> None:
    begun = sent(BINARY, bits=0) + sent(CONTINUATION, b"x", 0)
    assert parse(begun + sent(CONTINUATION, b"y"), parser=Parser(max_fragments=3)) == ([b"xy"], None)
    refused = begun + sent(CONTINUATION, bits=0) + bytes((FIN, MASKED))
    assert parse(refused, parser=Parser(max_fragments=3)) == ([], (1008, "message_fragments"))


def test_messages_of_one_frame_and_pings_are_no_fragments() -> None:
    data = (sent(TEXT, b"x") + sent(PING)) * 10 + sent(TEXT, b"x", 0) + sent(PING) * 10 + sent(CONTINUATION)
    assert parse(data, parser=Parser(max_fragments=2))[1] is None


def peak_of(parser: Parser, parts: Iterable[bytes]) -> int:
    """Return the bytes that the parser has needed at most while it took the parts."""
    tracemalloc.start()
    try:
        for part in parts:
            parser.feed(part)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("limit", [None, 4_096])
def test_fifty_thousand_empty_fragments_take_no_memory(limit: int | None) -> None:
    parser = Parser(max_bytes=65_536, max_fragments=limit)
    batch = sent(CONTINUATION, bits=0) * 1_000
    assert peak_of(parser, itertools.chain([sent(TEXT, bits=0)], itertools.repeat(batch, 50))) < 50_000
    assert (parser.fault is None) == (limit is None)
    if parser.fault is not None:
        assert (parser.fault.code, parser.fault.reason) == (1008, "message_fragments")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_peer_that_sends_single_bytes_costs_no_more_than_its_bytes(opcode: Opcode) -> None:
    data = sent(opcode, b"x" * 30_000)[:-1]
    assert peak_of(Parser(max_bytes=65_536), single_bytes(data)) < 3 * len(data)


# UTF-8

BAD_TEXTS = {
    "a continuation byte": b"\x80",
    "an overlong slash": b"\xc0",
    "an overlong form of three bytes": b"\xe0\x80",
    "an overlong form of four bytes": b"\xf0\x80",
    "a surrogate": b"\xed\xa0",
    "beyond the last character": b"\xf4\x90",
    "an impossible byte": b"\xff",
    "an interrupted character": b"\xce\x20",
    "an interrupted long one": b"\xf0\x9f\x99\x20",
}


@pytest.mark.parametrize("bad", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_bad_utf_8_fails_with_the_byte_that_makes_it_bad(bad: bytes) -> None:
    invalid = (1007, "invalid UTF-8")
    payload = b"\xce\xba" + bad
    begun = head(FIN | TEXT, 100) + mask(payload, KEY)
    assert parse(begun[:-1]) == ([], None)
    assert parse(begun) == ([], invalid)  # inside a frame of which more is to come
    assert parse(*single_bytes(begun)) == ([], invalid)
    assert parse(sent(TEXT, payload)) == ([], invalid)
    assert parse(sent(TEXT, payload, 0)) == ([], invalid)  # before the message's last fragment
    fragments = b"".join(sent(CONTINUATION, byte, 0) for byte in single_bytes(payload[1:]))
    assert parse(sent(TEXT, payload[:1], 0) + sent(PING) + fragments) == ([Ping(b"")], invalid)
    assert parse(sent(TEXT, compress(payload), RSV1 | FIN), parser=compressing()) == ([], invalid)
    assert parse(sent(BINARY, payload)) == ([payload], None)


@pytest.mark.parametrize("cut_short", [b"\xce", b"ok\xe2\x82", b"\xf0\x9f\x99"])
def test_a_text_that_ends_within_a_character_is_bad(cut_short: bytes) -> None:
    assert parse(sent(TEXT, cut_short)) == ([], (1007, "invalid UTF-8"))
    assert parse(*single_bytes(sent(TEXT, cut_short))) == ([], (1007, "invalid UTF-8"))
    assert parse(sent(TEXT, cut_short, 0)) == ([], None)
    assert parse(sent(TEXT, cut_short, 0) + sent(CONTINUATION)) == ([], (1007, "invalid UTF-8"))


# Closing


@pytest.mark.parametrize(
    ("payload", "closed"),
    [
        (b"", Closed(1005, "")),
        (b"\x03\xe8", Closed(1000, "")),
        (b"\x03\xe9going away", Closed(1001, "going away")),
        (b"\x03\xe8" + "é".encode() * 61, Closed(1000, "é" * 61)),
        *(
            (code.to_bytes(2, "big"), Closed(code, ""))
            for code in (1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
        ),
    ],
)
def test_a_close_says_its_code_and_reason(payload: bytes, closed: Closed) -> None:
    data = sent(CLOSE, payload)
    assert parse(data) == ([closed], None)
    assert parse(*single_bytes(data)) == ([closed], None)


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535])
def test_a_code_that_nobody_may_send_is_a_protocol_error(code: int) -> None:
    assert parse(sent(CLOSE, code.to_bytes(2, "big"))) == ([], (1002, "a close code that nobody may send"))


@pytest.mark.parametrize("payload", [b"\x03", b"\x00", b"\xff"])
def test_a_close_of_one_byte_is_a_protocol_error(payload: bytes) -> None:
    assert parse(sent(CLOSE, payload)) == ([], (1002, "a close code that nobody may send"))


@pytest.mark.parametrize("reason", [b"\xff", b"cut \xc3"])
def test_a_reason_that_is_not_utf_8_is_an_invalid_payload(reason: bytes) -> None:
    data = sent(CLOSE, b"\x03\xe8" + reason)
    assert parse(data) == parse(*single_bytes(data)) == ([], (1007, "invalid UTF-8"))


@pytest.mark.parametrize("after", [sent(TEXT, b"late"), sent(CLOSE), b"\xff\xff", sent(CONTINUATION, b"end")])
def test_after_a_close_everything_is_ignored(after: bytes) -> None:
    begun = sent(TEXT, b"begun", 0)
    parser = Parser()
    assert parse(begun + sent(CLOSE) + after, after, parser=parser) == ([Closed(1005, "")], None)
    assert parser.is_idle


def test_after_a_fault_everything_is_ignored() -> None:
    parser = Parser()
    data = sent(TEXT, b"before") + sent(3) + sent(TEXT, b"after")
    assert parse(data, sent(TEXT, b"later"), parser=parser) == (["before"], (1002, "an unknown opcode"))
    assert str(parser.fault) == "1002: an unknown opcode"


class WatchedInflater(Inflater):
    __slots__ = ("__weakref__",)


@pytest.mark.parametrize(
    "last",
    [
        sent(TEXT, b"\xff\xff", FIN | RSV1),  # not deflate data
        sent(TEXT, compress(b"x" * 2_000), FIN | RSV1),  # more than is allowed
        sent(TEXT, compress(b"\xff"), FIN | RSV1),  # not UTF-8
        sent(TEXT, compress(b"begun")[:3], RSV1) + sent(PING, bits=0),
        sent(TEXT, compress(b"begun")[:3], RSV1) + sent(CLOSE),
    ],
)
def test_nothing_holds_the_inflater_after_the_end(last: bytes) -> None:
    inflater = WatchedInflater()
    watched = weakref.ref(inflater)
    parser = Parser(max_bytes=1_000, inflater=inflater)
    del inflater
    parser.feed(sent(TEXT, compress(b"before"), FIN | RSV1))
    assert watched() is not None
    parser.feed(last)
    assert watched() is None


# One message that has arrived whole, at once


def heard(parser: Parser, parts: Iterable[bytes]) -> tuple[list[Event], tuple[int, str] | None, bool]:
    """Feed the parts as a transport does: what is just one message is asked for before anything else."""
    events: list[Event] = []
    for part in parts:
        message = parser.only(part)
        events += parser.feed(part) if message is None else [message]
    return events, None if parser.fault is None else (parser.fault.code, parser.fault.reason), parser.is_idle


def fed(parser: Parser, parts: Iterable[bytes]) -> tuple[list[Event], tuple[int, str] | None, bool]:
    events, fault = parse(*parts, parser=parser)
    return events, fault, parser.is_idle


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1_000, 65_535])
def test_a_message_that_has_arrived_whole_is_had_at_once(size: int) -> None:
    parser = Parser(max_bytes=size)
    for _ in range(2):
        assert parser.only(sent(BINARY, b"x" * size)) == b"x" * size
        assert parser.only(sent(TEXT, b"x" * size)) == "x" * size
    assert parser.is_idle


@pytest.mark.parametrize(
    "data",
    [
        b"",
        sent(TEXT)[:-1],
        sent(TEXT, b"cut")[:-1],
        sent(TEXT, b"one") + sent(TEXT, b"two"),
        sent(TEXT, b"fragment", bits=0),
        sent(CONTINUATION, b"out of turn"),
        sent(PING),
        sent(CLOSE),
        sent(TEXT, b"\xff"),
        sent(TEXT, b"x", FIN | RSV1),
        sent(TEXT, b"x", FIN | RSV2),
        sent(BINARY, b"x" * 101),
        sent(BINARY, b"x" * 65_536),
        b"\x82\x01" + KEY + b"x",
        b"\x82\x00" + KEY,
        bytes((FIN | BINARY, MASKED | 126, 0, 100)) + KEY + b"x" * 100,
    ],
)
def test_anything_else_is_left_to_feed_and_changes_nothing(data: bytes) -> None:
    parser, other = compressing(max_bytes=100), compressing(max_bytes=100)
    assert parser.only(data) is None
    assert (parser.is_idle, parser.fault) == (True, None)
    assert fed(parser, [data]) == fed(other, [data])


@pytest.mark.parametrize(
    "before",
    [
        sent(TEXT, b"begun", bits=0),
        sent(TEXT, b"cut")[:-1],
        sent(TEXT)[:1],
        sent(CLOSE),
        sent(3),
        sent(TEXT, b"1") * 3,
    ],
    ids=["fragment", "cut", "one byte", "closed", "fault", "more than at once"],
)
def test_a_parser_that_is_in_the_middle_of_something_has_nothing_at_once(before: bytes) -> None:
    parser = Parser(frames_at_once=2)
    parser.feed(before)
    assert parser.only(sent(TEXT, b"x")) is None


FRAMES = st.one_of(
    st.tuples(FIRST_BYTES, st.binary(max_size=130) | TEXTS.map(str.encode)).map(lambda it: sent(0, it[1], it[0])),
    messages().map(lambda message: message[0]),
    st.binary(max_size=20),
)


@UNTIMED
@given(st.lists(FRAMES, max_size=6), CUTS, st.booleans(), st.booleans())
@example([sent(TEXT, "é".encode()), sent(BINARY, b"x" * 51), sent(TEXT)], [], False, True)
@example([sent(TEXT, b"a", 0), sent(TEXT, b"b")], [], False, True)
def test_had_at_once_or_not_the_events_and_the_fault_are_the_same(
    frames: list[bytes], places: list[int], compressed: bool, is_whole: bool
) -> None:
    parts = frames if is_whole else cut(b"".join(frames), places)
    make = compressing if compressed else Parser
    limits = {"max_bytes": 50, "max_fragments": 3}
    assert heard(make(**limits), parts) == fed(make(**limits), parts)


# Limits that change


def test_the_limits_can_be_replaced_between_messages() -> None:
    parser = Parser(max_bytes=1, max_fragments=1)
    parser.limit(3, 2)
    three = sent(BINARY, b"12", 0) + sent(CONTINUATION, b"3")
    assert parse(three, parser=parser) == ([b"123"], None)
    parser.limit(2, 2)
    assert parser.only(sent(BINARY, b"123")) is None
    assert parse(sent(BINARY, b"12"), sent(BINARY, b"123"), parser=parser) == ([b"12"], (1009, "message_bytes"))


@pytest.mark.parametrize(
    ("limits", "fault"),
    [((2, None), (1009, "message_bytes")), ((None, 1), (1008, "message_fragments")), ((None, None), None)],
)
def test_the_limits_can_be_replaced_within_a_message(
    limits: tuple[int | None, int | None], fault: tuple[int, str] | None
) -> None:
    parser = Parser(max_bytes=100, max_fragments=2)
    parser.feed(sent(BINARY, b"12", 0))
    parser.limit(*limits)
    assert parse(sent(CONTINUATION, b"3"), parser=parser) == ([] if fault else [b"123"], fault)


def test_a_limit_holds_for_what_a_message_decompresses_to_too() -> None:
    parser = compressing()
    parser.limit(100, None)
    assert parse(sent(TEXT, compress(b"x" * 101), FIN | RSV1), parser=parser) == ([], (1009, "message_bytes"))


# So many frames at once


def test_one_feed_takes_only_so_many_frames() -> None:
    parser = Parser(frames_at_once=2)
    data = b"".join(sent(TEXT, b"%d" % number) for number in range(5))
    progress = [(parser.feed(data), parser.has_more)]
    while parser.has_more:
        progress.append((parser.feed(b""), parser.has_more))
    assert progress == [(["0", "1"], True), (["2", "3"], True), (["4"], False)]
    assert parser.is_idle


def test_control_frames_and_fragments_count_too() -> None:
    parser = Parser(frames_at_once=2)
    data = sent(PING) + sent(TEXT, b"a", 0) + sent(CONTINUATION, b"b") + sent(PONG)
    assert (parser.feed(data), parser.has_more) == ([Ping(b"")], True)
    assert (parser.feed(b""), parser.has_more) == (["ab", Pong(b"")], False)


def test_what_arrives_before_the_rest_is_asked_for_comes_after_it() -> None:
    parser = Parser(frames_at_once=1)
    assert parser.feed(sent(TEXT, b"1") + sent(TEXT, b"2")) == ["1"]
    assert parser.only(sent(TEXT, b"3")) is None
    assert parser.feed(sent(TEXT, b"3")) == ["2"]
    assert (parser.feed(b""), parser.has_more) == (["3"], False)


@pytest.mark.parametrize("last", [sent(CLOSE), sent(3)], ids=["a close", "a fault"])
def test_after_the_end_there_is_no_more(last: bytes) -> None:
    parser = Parser(frames_at_once=2)
    parser.feed(sent(TEXT, b"1") + last + sent(TEXT, b"2") * 5)
    assert not parser.has_more
    assert (parser.feed(b""), parser.has_more) == ([], False)


@UNTIMED
@given(st.lists(FRAMES, max_size=6), CUTS, st.integers(1, 3))
def test_however_many_frames_at_once_the_events_and_the_fault_are_the_same(
    frames: list[bytes], places: list[int], at_once: int
) -> None:
    data = b"".join(frames)
    parser = Parser(max_bytes=50, max_fragments=3, frames_at_once=at_once)
    events: list[Event] = []
    for part in cut(data, places):
        events += parser.feed(part)
        while parser.has_more:
            events += parser.feed(b"")
    fault = None if parser.fault is None else (parser.fault.code, parser.fault.reason)
    assert (events, fault) == parse(*cut(data, places), parser=Parser(max_bytes=50, max_fragments=3))
    assert parser.fault is not None or parser.has_more is False
