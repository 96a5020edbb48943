"""permessage-deflate negotiates as RFC 7692 section 7.1 says, keeps no context, and stops bombs early."""

import itertools
import random
import tracemalloc
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub.wire.deflate import Inflater, compress, negotiate
from hubbub.wire.handshake import ExtensionOffer
from hubbub.wire.parser import Fault

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

NAME = "permessage-deflate"
ALWAYS = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TAIL = b"\x00\x00\xff\xff"
HELLO = bytes.fromhex("f248cdc9c90700")  # section 7.2.3.1


def offer(**parameters: str | None) -> ExtensionOffer:
    return ExtensionOffer(NAME, tuple(parameters.items()))


def inflate(*parts: bytes, room: int | None = None) -> bytes:
    """Decompress one message that comes in parts."""
    inflater, inflated = Inflater(), b""
    for part in parts[:-1]:
        inflated += inflater.inflate(part, None if room is None else room - len(inflated), False)
    return inflated + inflater.inflate(parts[-1], None if room is None else room - len(inflated), True)


def finished(data: bytes) -> bytes:
    """Compress to a stream whose last block is final (section 7.2.3.4)."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush(zlib.Z_FINISH)


def fault_of(*parts: bytes, room: int | None = None) -> tuple[int, str]:
    with pytest.raises(Fault) as caught:
        inflate(*parts, room=room)
    return caught.value.code, caught.value.reason


# Negotiation


@pytest.mark.parametrize(
    ("accepted", "answer", "bits"),
    [
        (offer(), ALWAYS, 15),
        (offer(server_no_context_takeover=None), ALWAYS, 15),
        (offer(client_no_context_takeover=None), ALWAYS, 15),
        (offer(client_max_window_bits=None), ALWAYS, 15),
        (offer(client_max_window_bits="8"), ALWAYS, 15),
        (offer(client_max_window_bits="15"), ALWAYS, 15),
        (offer(server_max_window_bits="9"), f"{ALWAYS}; server_max_window_bits=9", 9),
        (offer(server_max_window_bits="10", client_max_window_bits="9"), f"{ALWAYS}; server_max_window_bits=10", 10),
        # Section 7.1.2.1: accepted by being in the answer.
        (offer(server_max_window_bits="15"), f"{ALWAYS}; server_max_window_bits=15", 15),
    ],
)
def test_a_valid_offer_is_accepted(accepted: ExtensionOffer, answer: str, bits: int) -> None:
    assert negotiate([accepted]) == (answer.encode(), bits)


DECLINED = [
    ExtensionOffer("x-webkit-deflate-frame", ()),
    offer(unknown=None),
    offer(server_no_context_takeover="1"),
    offer(client_no_context_takeover="true"),
    offer(server_max_window_bits=None),
    offer(server_max_window_bits="8"),  # zlib cannot make it
    *(offer(server_max_window_bits=value) for value in ("7", "16", "09", "+9", "-9", "1e1", "x", "9" * 5_000)),
    *(offer(client_max_window_bits=value) for value in ("7", "16", "08", "x", "9" * 5_000)),
    ExtensionOffer(NAME, (("server_no_context_takeover", None),) * 2),
    ExtensionOffer(NAME, (("client_max_window_bits", None), ("client_max_window_bits", "10"))),
]


@pytest.mark.parametrize("declined", DECLINED, ids=lambda declined: str(declined.parameters)[:60])
def test_an_offer_that_is_invalid_or_unknown_is_declined(declined: ExtensionOffer) -> None:
    assert negotiate([declined]) is None


def test_the_first_offer_that_can_be_accepted_wins() -> None:
    assert negotiate([*DECLINED, offer(server_max_window_bits="12"), offer()]) == (
        f"{ALWAYS}; server_max_window_bits=12".encode(),
        12,
    )


def test_without_an_offer_nothing_is_negotiated() -> None:
    assert negotiate([]) is None


# Compression


def test_the_example_of_section_7_2_3_1_is_compressed() -> None:
    assert compress(b"Hello") == HELLO


def test_an_empty_message_is_one_byte() -> None:
    assert compress(b"") in (b"\x00", b"\x02\x00")  # section 7.2.3.6 has the first; zlib's other implementations differ


def test_a_payload_compresses_to_the_same_bytes_every_time() -> None:
    assert len({compress(b"the same payload for all " * 10) for _ in range(3)}) == 1


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_client_with_the_negotiated_window_can_read_it(bits: int) -> None:
    payload = random.Random(1).randbytes(1_000) * 40
    assert zlib.decompressobj(-bits).decompress(compress(payload, bits) + TAIL) == payload


# Decompression


@pytest.mark.parametrize(
    "compressed",
    [
        "f248cdc9c90700",  # 7.2.3.1, one block
        "000500faff48656c6c6f00",  # 7.2.3.3, a block without compression
        "f348cdc9c9070000",  # 7.2.3.4, a final block
        "f24805000000ffffcac9c90700",  # 7.2.3.5, two blocks
        "f348cdc9c90700",  # a final block without the empty one behind it, as some senders have it
    ],
)
def test_the_examples_of_section_7_2_3_are_read_in_any_parts(compressed: str) -> None:
    data = bytes.fromhex(compressed)
    assert inflate(data, room=5) == b"Hello"
    assert inflate(*(data[i : i + 1] for i in range(len(data))), room=5) == b"Hello"
    for cut in range(len(data) + 1):
        assert inflate(data[:cut], b"", data[cut:]) == b"Hello"


def test_each_message_starts_with_an_empty_window() -> None:
    inflater = Inflater()
    assert inflater.inflate(HELLO, None, True) == b"Hello"
    with pytest.raises(Fault):  # section 7.2.3.2: the second "Hello" as a reference to the first
        inflater.inflate(bytes.fromhex("f200110000"), None, True)


@pytest.mark.parametrize("empty", [b"\x00", b"\x02\x00", b"\x03\x00", b"\x03\x00\x00"])
def test_an_empty_message_is_empty(empty: bytes) -> None:
    assert inflate(empty, room=0) == b""


def test_blocks_after_a_final_one_belong_to_the_message() -> None:
    message = finished(b"one, ") + finished(b"two, ") + compress(b"three")
    assert inflate(message, room=15) == b"one, two, three"
    assert inflate(*(message[i : i + 1] for i in range(len(message))), room=15) == b"one, two, three"
    assert fault_of(message, room=14) == (1009, "message_bytes")


@pytest.mark.parametrize("size", [1, 2, 100_000])
def test_a_message_of_many_streams_is_refused(size: int) -> None:
    empty = b"\x03\x00"
    assert inflate(empty * 64) == b""
    for parts in ([empty * 100_000], [(empty * 130)[i : i + size] for i in range(0, 260, size)]):
        assert fault_of(*parts) == (1008, "too many deflate streams in a message")


def test_the_streams_of_each_message_count_alone() -> None:
    inflater = Inflater()
    assert [inflater.inflate(b"\x03\x00" * 64, 0, True) for _ in range(3)] == [b""] * 3


@UNTIMED
@given(st.lists(st.binary(max_size=300), max_size=4), st.lists(st.integers(0, 1_000), max_size=5))
def test_any_split_of_any_blocks_is_read_alike(payloads: list[bytes], cuts: list[int]) -> None:
    message = b"".join(finished(payload) for payload in payloads) + compress(b"end")
    edges = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    parts = [message[start:end] for start, end in itertools.pairwise(edges)]
    expected = b"".join(payloads) + b"end"
    assert inflate(*parts, room=len(expected)) == inflate(*parts) == expected


MIXED = compress(random.Random(2).randbytes(100) + b"words " * 30)


@pytest.mark.parametrize(
    "compressed",
    [
        b"",  # not even the header of a block
        b"\xff",  # a reserved type of block
        b"\x00\x05\x00\x00\x00Hello\x00",  # a length that is not its complement's
        bytes.fromhex("f200110000"),  # a reference to what is not there
        HELLO + b"\x07",
        HELLO[:3],
        HELLO[:6],
        b"\x00\x14\x00\xeb\xffHello",  # a block of 20 bytes that has 5
        b"\x03\x00\x00\x00\x00",  # after a final block, an unfinished one
    ],
    ids=repr,
)
def test_corrupt_or_truncated_data_is_a_protocol_error(compressed: bytes) -> None:
    assert fault_of(compressed, room=1_000)[0] == 1002
    assert fault_of(compressed)[0] == 1002


@pytest.mark.parametrize("size", range(1, len(MIXED)))
def test_a_message_that_is_cut_short_is_a_protocol_error(size: int) -> None:
    assert fault_of(MIXED[:size])[0] == 1002


@UNTIMED
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.integers(0, 100))
def test_garbage_is_a_fault_or_within_its_room(parts: list[bytes], room: int) -> None:
    code = None
    try:
        assert len(inflate(*parts, room=room)) <= room
    except Fault as fault:
        code = fault.code
    assert code in (None, 1002, 1008, 1009)


def test_a_message_may_be_exactly_as_large_as_there_is_room() -> None:
    assert inflate(compress(b"x" * 1_000), room=1_000) == b"x" * 1_000
    assert fault_of(compress(b"x" * 1_001), room=1_000) == (1009, "message_bytes")


def test_a_bomb_stops_before_the_memory_is_taken() -> None:
    bomb = compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        assert fault_of(bomb, room=65_536) == (1009, "message_bytes")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000
