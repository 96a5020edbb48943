"""What a client gets from a join with `envelope=True` on a channel with history, as types for Pydantic."""

from typing import Annotated, Generic, Literal, NotRequired, TypeVar

from pydantic import Field
from typing_extensions import TypeAliasType, TypedDict

__all__ = ("Envelope", "Enveloped", "Recovered")

T = TypeVar("T")

_Channel = Annotated[str, Field(description="The channel")]
_Epoch = Annotated[str, Field(description="Identifies this history; another one says that it was lost and began anew")]


class Enveloped(TypedDict, Generic[T]):
    """A publication, and its position in the history of its channel."""

    channel: _Channel
    epoch: _Epoch
    offset: Annotated[int, Field(description="Its number in this epoch: one more than that of the publication before")]
    data: Annotated[T, Field(description="What was published")]
    encoding: NotRequired[
        Annotated[Literal["base64"], Field(description="There if binary data was published: it is Base64 here")]
    ]


class Recovered(TypedDict):
    """Where the client is: sent when it has joined, after all that it has missed, and whenever something is lost."""

    channel: _Channel
    epoch: _Epoch
    offset: Annotated[int, Field(description="The offset of the last publication before what comes now")]
    recovered: Annotated[bool, Field(description="Whether the client has all that was published since its position")]


Envelope = TypeAliasType("Envelope", Enveloped[T] | Recovered, type_params=(T,))
"""What a client gets of a channel with history, of which `T` is published, from a join with `envelope=True`.

It is for annotations: `Connection[Say, Envelope[Said]]`. Without history there is no position in an envelope.
"""
