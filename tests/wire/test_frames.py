"""A server's frames have the bytes of RFC 6455 section 5."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub.wire.frames import COMPRESSED, CONTROL_BYTES, Opcode, close_payload, frame, header

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does


def test_the_unmasked_text_of_section_5_7_has_its_bytes() -> None:
    assert frame(Opcode.TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")


def test_the_ping_of_section_5_7_has_its_bytes() -> None:
    assert frame(Opcode.PING, b"Hello") == bytes.fromhex("890548656c6c6f")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "8200"),
        (125, "827d"),
        (126, "827e007e"),
        (256, "827e0100"),  # section 5.7
        (65_535, "827effff"),
        (65_536, "827f0000000000010000"),  # section 5.7
        (2**63 - 1, "827f7fffffffffffffff"),
    ],
)
def test_a_length_takes_its_shortest_form(size: int, expected: str) -> None:
    assert header(Opcode.BINARY, size).hex() == expected


def test_a_compressed_message_has_the_first_reserved_bit() -> None:
    assert frame(Opcode.TEXT, bytes.fromhex("f248cdc9c90700"), COMPRESSED).hex() == "c107f248cdc9c90700"


@pytest.mark.parametrize("opcode", Opcode)
def test_every_frame_is_final_and_without_reserved_bits(opcode: Opcode) -> None:
    assert header(opcode, 0) == bytes((0x80 | opcode, 0))


def test_a_close_has_its_code_and_reason() -> None:
    assert close_payload(1000) == b"\x03\xe8"
    assert close_payload(3008, "zu träge") == b"\x0b\xc0zu tr\xc3\xa4ge"


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("x" * 123, "x" * 123), ("x" * 124, "x" * 123), ("é" * 62, "é" * 61), ("a" + "🙂" * 31, "a" + "🙂" * 30)],
)
def test_a_reason_that_is_too_long_is_cut_between_characters(reason: str, kept: str) -> None:
    assert close_payload(1000, reason) == b"\x03\xe8" + kept.encode()


@UNTIMED
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=200))
def test_any_reason_fits_into_a_control_frame_as_utf_8(reason: str) -> None:
    payload = close_payload(1000, reason)
    assert len(payload) <= CONTROL_BYTES
    assert reason.startswith(payload[2:].decode())
