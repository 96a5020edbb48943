"""Masking is the XOR of RFC 6455 section 5.3, whatever the size and wherever a part begins."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hubbub.wire.mask import mask

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

KEYS = st.binary(min_size=4, max_size=4)


def masked_byte_by_byte(data: bytes, key: bytes, offset: int = 0) -> bytes:
    return bytes(byte ^ key[(offset + index) % 4] for index, byte in enumerate(data))


def test_the_example_of_section_5_7_is_unmasked() -> None:
    assert mask(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 1_022, 1_023, 1_024, 1_025, 1_026, 1_027, 4_099])
@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, 65_537])
def test_every_size_and_offset_is_masked_byte_by_byte(size: int, offset: int) -> None:
    data, key = bytes(index * 7 & 0xFF for index in range(size)), b"\x01\x80\x00\xff"
    assert mask(data, key, offset) == masked_byte_by_byte(data, key, offset)


@UNTIMED
@given(st.binary(max_size=64) | st.binary(min_size=1_000, max_size=2_000), KEYS, st.integers(0, 2**63))
@example(b"\x00" * 8, b"\x00\x00\x00\x00", 0)
def test_masking_twice_gives_the_payload_back(data: bytes, key: bytes, offset: int) -> None:
    assert mask(mask(data, key, offset), key, offset) == data


@UNTIMED
@given(st.binary(max_size=2_000), KEYS, st.data())
def test_parts_are_masked_like_the_whole(data: bytes, key: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    assert mask(data[:cut], key) + mask(data[cut:], key, cut) == mask(data, key)
