"""A publication on its way: what it says, in the forms in which it is sent, and as what hubs give to a broker.

The payload on a broker is one line of text, `kind origin exclude`, and then the message itself. It is data only, and
whatever is not that is refused: anybody who reaches the broker may have written it.
"""

from __future__ import annotations

import enum
import json
import re
from base64 import b64encode
from collections.abc import Collection
from typing import NamedTuple

from pydantic_core import from_json

from ..model import Position
from ..wire.frames import CLOSE_CODES, REASON_BYTES
from ..wire.prepared import PreparedFrame
from .fanout import prepare

__all__ = ("UNREADABLE", "Disconnect", "Form", "Kind", "Message", "Parcel", "lost", "pack", "unpack")

_HEAD_BYTES = 1_048_576
_WORD = re.compile(r"[0-9a-zA-Z.]*")


class Kind(enum.StrEnum):
    """What a payload is."""

    TEXT = "t"
    JSON = "j"
    BINARY = "b"
    DISCONNECT = "d"


class Form(enum.StrEnum):
    """How a connection gets the publications of a channel; each is also the prefix of the channel in the index.

    A silent one gets none: it is about to join, or is to be found there only.
    """

    PLAIN = ""
    ENVELOPE = "$envelope:"
    EVENTS = "$events:"
    SILENT = "$silent:"


class Message:
    """A message in the forms in which it is sent, each made at most once.

    Args:
        kind: What the application has given: a text, something with a JSON form, or bytes.
        frame: The message.
    """

    __slots__ = ("_forms", "frame", "kind")

    def __init__(self, kind: Kind, frame: PreparedFrame) -> None:
        self.kind = kind
        self.frame = frame
        self._forms: dict[Form, PreparedFrame] | None = None

    @classmethod
    def of(cls, message: object) -> Message:
        """Encode what an application publishes.

        Raises:
            TypeError: Something in the message has no JSON form.
            ValueError: A text has a lone surrogate, or the message contains itself.
        """
        frame = prepare(message)
        if isinstance(message, str):
            return cls(Kind.TEXT, frame)
        return cls(Kind.BINARY if isinstance(frame.data, bytes) else Kind.JSON, frame)

    def form(self, form: Form, channel: str, position: Position | None) -> PreparedFrame:
        """Return what is sent to a connection that gets the channel in this form."""
        if form is Form.PLAIN:
            return self.frame
        if self._forms is None:
            self._forms = {}
        if form not in self._forms:
            self._forms[form] = PreparedFrame(
                _event(self.frame, position) if form is Form.EVENTS else self._envelope(channel, position)
            )
        return self._forms[form]

    def _envelope(self, channel: str, position: Position | None) -> str:
        data = self.frame.data
        head = _head(channel, position)
        if isinstance(data, bytes):
            return f'{head},"encoding":"base64","data":"{b64encode(data).decode()}"}}'
        return f'{head},"data":{data if self.kind is Kind.JSON else json.dumps(data, ensure_ascii=False)}}}'


UNREADABLE = Message(Kind.TEXT, PreparedFrame(""))
"""In the place of a payload that cannot be read: it has an offset, and is not sent."""


def _head(channel: str, position: Position | None) -> str:
    head = f'{{"channel":{json.dumps(channel, ensure_ascii=False)}'
    return head if position is None else f'{head},"epoch":"{position.epoch}","offset":{position.offset}'


def _event(frame: PreparedFrame, position: Position | None) -> str:
    """Return a message as a Server-Sent Event (HTML Living Standard, 9.2.5)."""
    data = b64encode(frame.data).decode() if isinstance(frame.data, bytes) else frame.data
    lines = re.split("\r\n|\r|\n", data)
    return ("" if position is None else f"id: {position}\n") + "".join(f"data: {line}\n" for line in lines) + "\n"


def place(channel: str, position: Position, is_recovered: bool) -> PreparedFrame:
    """Return what tells a connection that gets the envelope where it is, and whether it has all that was before."""
    return PreparedFrame(f'{_head(channel, position)},"recovered":{"true" if is_recovered else "false"}}}')


def lost(form: Form, channel: str, position: Position) -> PreparedFrame | None:
    """Return what tells a connection that publications before `position` are lost to it, if its form can say that."""
    match form:
        case Form.ENVELOPE:
            return place(channel, position, False)
        case Form.EVENTS:
            return PreparedFrame(f"id: {position}\nevent: reset\ndata: {position}\n\n")
        case _:
            return None


class Disconnect(NamedTuple):
    """The order to close connections."""

    code: int
    reason: str


class Parcel(NamedTuple):
    """What a payload holds.

    Args:
        content: What is published, or an order to the hubs.
        origin: What the publishing hub knows it by, or empty.
        exclude: Ids of the connections that do not get it.
    """

    content: Message | Disconnect
    origin: str
    exclude: Collection[str]


def pack(content: Message | Disconnect, origin: str = "", exclude: Collection[str] = ()) -> bytes:
    """Return the payload for a broker.

    Raises:
        ValueError: There are more connections in `exclude` than its first line can name.
    """
    if isinstance(content, Disconnect):
        kind, body = Kind.DISCONNECT, json.dumps(content).encode()
    else:
        data = content.frame.data
        kind, body = content.kind, data.encode() if isinstance(data, str) else data
    head = f"{kind} {origin} {','.join(exclude)}\n".encode()
    if len(head) > _HEAD_BYTES:
        raise ValueError(f"exclude names {len(exclude)} connections: that is too many to tell other workers")
    return head + body


def unpack(payload: bytes) -> Parcel:
    """Return what a payload holds.

    Raises:
        ValueError: It is not what `pack` makes.
    """
    end = payload.find(b"\n", 0, _HEAD_BYTES)
    if end < 0:
        raise ValueError("the payload has no first line")
    kind, origin, exclude = payload[:end].decode("ascii").split(" ")
    excluded = tuple(exclude.split(",")) if exclude else ()
    if not all(map(_WORD.fullmatch, (origin, *excluded))):
        raise ValueError("the payload's first line is malformed")
    try:
        return Parcel(_content(Kind(kind), payload[end + 1 :]), origin, excluded)
    except RecursionError:
        raise ValueError("the payload's JSON is nested too deeply") from None


def _content(kind: Kind, body: bytes) -> Message | Disconnect:
    match kind:
        case Kind.DISCONNECT:
            return _disconnect(json.loads(body))
        case Kind.BINARY:
            return Message(kind, PreparedFrame(body))
        case Kind.JSON:
            _check_json(body)  # it becomes a part of the envelope
    return Message(kind, PreparedFrame(body.decode(), len(body)))


def _check_json(body: bytes) -> None:
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError:
        json.loads(body.decode(), parse_constant=_refuse)  # slower, and takes what is nested more deeply


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _disconnect(order: object) -> Disconnect:
    match order:
        case [int(code), str(reason)] if code in CLOSE_CODES and len(reason.encode()) <= REASON_BYTES:
            return Disconnect(code, reason)
        case _:
            raise ValueError("an order to disconnect has a close code and a reason")
