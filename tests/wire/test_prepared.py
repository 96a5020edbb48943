"""A frame knows its size on the wire, and is built once for each encoding."""

import random
import zlib
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hubbub.wire import prepared
from hubbub.wire.prepared import PreparedFrame, deflated, payload_size, plain

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

ENCODABLE = st.text(st.characters(exclude_categories=("Cs",)))


@UNTIMED
@given(ENCODABLE)
@example("")
@example("ascii")
@example("\x7f\x80")
@example("\u07ff\u0800")
@example("\uffff\U00010000")
def test_a_text_has_the_size_of_its_utf_8_form(text: str) -> None:
    assert payload_size(text) == len(text.encode("utf-8"))


@UNTIMED
@given(st.binary())
def test_bytes_have_their_own_size(data: bytes) -> None:
    assert payload_size(data) == len(data)


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d\ude00", "é" * 1000 + "\udc80"])
def test_a_lone_surrogate_has_no_size(text: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        payload_size(text)
    with pytest.raises(UnicodeEncodeError):
        PreparedFrame(text)


@UNTIMED
@given(ENCODABLE | st.binary())
def test_a_frame_keeps_the_message_and_its_size(data: str | bytes) -> None:
    frame = PreparedFrame(data)
    assert frame.data is data
    assert frame.size == payload_size(data)


def test_a_size_that_is_known_is_not_computed_again() -> None:
    assert PreparedFrame("é", 2).size == 2
    assert PreparedFrame("\ud800", 0).size == 0


def test_a_frame_has_no_room_for_more() -> None:
    with pytest.raises(AttributeError):
        PreparedFrame("x").extra = 1  # type: ignore[attr-defined]


# What goes over the wire

FINAL_TEXT, FINAL_BINARY, COMPRESSED = 0x81, 0x82, 0x40
NOISE = random.Random(1).randbytes(4_096)


def unpacked(encoded: bytes) -> tuple[int, bytes, bytes]:
    """Return the first byte of a server's frame, its payload, and what follows it."""
    size, start = encoded[1], 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(encoded[2:start], "big")
    return encoded[0], encoded[start : start + size], encoded[start + size :]


def inflated(payload: bytes, window_bits: int = 15) -> bytes:
    return zlib.decompressobj(-window_bits).decompress(payload + b"\x00\x00\xff\xff")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_a_plain_frame_is_the_whole_message_in_the_shortest_form(size: int) -> None:
    for data, first in (("x" * size, FINAL_TEXT), (b"x" * size, FINAL_BINARY)):
        encoded = PreparedFrame(data).plain
        assert unpacked(encoded) == (first, b"x" * size, b"")
        assert len(encoded) == size + (2 if size < 126 else 4 if size < 65_536 else 10)


@UNTIMED
@given(ENCODABLE | st.binary())
@example("é" * 63)
@example("é" * 62)
def test_a_plain_frame_says_what_the_message_says(data: str | bytes) -> None:
    first, payload, rest = unpacked(PreparedFrame(data).plain)
    assert (payload.decode() if first == FINAL_TEXT else payload, rest) == (data, b"")


@pytest.mark.parametrize("window_bits", [9, 12, 15])
@pytest.mark.parametrize("data", ["word " * 100, b"bytes " * 100, "é" * 32, "x" * 64])
def test_a_deflated_frame_is_smaller_and_says_the_same(data: str | bytes, window_bits: int) -> None:
    frame = PreparedFrame(data)
    first, payload, rest = unpacked(frame.deflated(window_bits))
    assert first == (FINAL_TEXT if isinstance(data, str) else FINAL_BINARY) | COMPRESSED
    assert inflated(payload, window_bits) == (data.encode() if isinstance(data, str) else data)
    assert rest == b""
    assert len(frame.deflated(window_bits)) < len(frame.plain)


@UNTIMED
@given(st.integers(9, 15), ENCODABLE | st.binary(max_size=2_000))
def test_deflated_or_not_a_frame_says_what_the_message_says(window_bits: int, data: str | bytes) -> None:
    frame = PreparedFrame(data)
    first, payload, _ = unpacked(frame.deflated(window_bits))
    payload = inflated(payload, window_bits) if first & COMPRESSED else payload
    assert (payload.decode() if first & 0x0F == 1 else payload) == data
    assert len(frame.deflated(window_bits)) <= len(frame.plain)


@pytest.mark.parametrize("data", ["", "x" * 63, b"y" * 63, "é" * 31])
def test_a_small_message_is_sent_as_it_is(data: str | bytes) -> None:
    frame = PreparedFrame(data)
    assert frame.deflated(15) is frame.plain


@pytest.mark.parametrize("size", [64, 200, 4_096])
def test_a_message_that_deflate_makes_no_smaller_is_sent_as_it_is(size: int) -> None:
    frame = PreparedFrame(NOISE[:size])
    assert frame.deflated(15) is frame.plain
    assert frame.deflated(9) is frame.plain


def test_each_frame_is_built_once() -> None:
    compress = mock.Mock(wraps=prepared.compress)
    with mock.patch.object(prepared, "compress", compress):
        for data in ("word " * 100, NOISE):
            compress.reset_mock()
            frame = PreparedFrame(data)
            assert frame.plain is frame.plain
            assert frame.deflated(15) is frame.deflated(15)
            assert frame.deflated(9) is frame.deflated(9)
            assert [call.args[1] for call in compress.call_args_list] == [15, 9]


def test_nothing_is_built_that_nobody_asks_for() -> None:
    compress = mock.Mock(wraps=prepared.compress)
    with mock.patch.object(prepared, "compress", compress):
        PreparedFrame("word " * 100).plain  # noqa: B018
    assert not compress.called


# What goes to many at once


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_encoding_joins_the_frames_in_order(count: int) -> None:
    frames = tuple(PreparedFrame(f"{number} " * 50) for number in range(count))
    assert plain(frames) == b"".join(frame.plain for frame in frames)
    assert deflated(15)(frames) == b"".join(frame.deflated(15) for frame in frames)
    assert deflated(9)(frames) == b"".join(frame.deflated(9) for frame in frames)


def test_a_single_frame_is_handed_over_without_a_copy() -> None:
    frame = PreparedFrame("word " * 100)
    assert plain((frame,)) is frame.plain
    assert deflated(15)((frame,)) is frame.deflated(15)


def test_the_same_function_stands_for_the_same_encoding() -> None:
    assert deflated(15) is deflated(15)
    assert len({plain, *(deflated(bits) for bits in range(9, 16))}) == 8
