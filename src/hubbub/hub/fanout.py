"""From a message to the connections that hear it: encode once, hand over to each."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydantic_core import PydanticSerializationError, to_json

from ..model import OutboxPolicy
from ..wire.prepared import PreparedFrame
from .connection import CoreConnection

__all__ = ("fan_out", "prepare")


def prepare(message: object) -> PreparedFrame:
    """Encode a message: `str` becomes a text frame, `bytes` a binary one, anything else JSON text.

    NaN and infinity become `null`, since JSON has no name for them (RFC 8259 section 6).

    Raises:
        TypeError: Something in the message has no JSON form.
        ValueError: A text has a lone surrogate, or the message contains itself.
    """
    if isinstance(message, PreparedFrame):
        return message
    try:
        if isinstance(message, str):
            return PreparedFrame(message)
        if isinstance(message, (bytes, bytearray, memoryview)):
            return PreparedFrame(bytes(message))
        encoded = to_json(message, inf_nan_mode="null")
        return PreparedFrame(encoded.decode(), len(encoded))
    except PydanticSerializationError as error:
        is_value = "UnicodeEncodeError" in str(error) or "Circular reference" in str(error)
        fault = ValueError if is_value else TypeError
        raise fault(f"{type(message).__name__} cannot be sent as JSON: {error}") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"the message has no UTF-8 form: {error}; remove lone surrogates first") from None


def fan_out(
    frame: PreparedFrame,
    channel: str,
    policy: OutboxPolicy | None,
    recipients: Iterable[CoreConnection],
    exclude: Collection[CoreConnection],
) -> bool:
    """Hand `frame` to each recipient and return whether the loop should run before more is published.

    Args:
        policy: The channel's own policy, or `None` for that of each connection.
        exclude: Connections that are left out.
    """
    queued = False
    for connection in recipients:
        if connection not in exclude and connection.deliver(frame, channel, policy):
            queued = True
    return queued
