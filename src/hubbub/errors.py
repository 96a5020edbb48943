"""The exceptions of Hubbub. Each says who is at fault and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from .model import CloseCode

__all__ = ("BrokerUnavailable", "Denied", "HubbubError", "InvalidMessage")


class HubbubError(Exception):
    """Base of every exception that Hubbub defines."""


class Denied(HubbubError):
    """A peer may not do this: connect, join, or go over a limit.

    Raise it yourself to refuse, in an endpoint or in a dependency that is resolved after the hub's. Before acceptance
    the client gets an HTTP response with a JSON body `{"detail", "limit"}`; after acceptance an uncaught one closes the
    connection with 1008.

    Args:
        reason: What the client is told.
        limit: Name of the limit that was hit, if it was one.
        status: HTTP status of the refusal before acceptance.
        headers: HTTP headers of that refusal, such as `Retry-After`.
    """

    def __init__(
        self,
        reason: str,
        *,
        limit: str | None = None,
        status: int = 403,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.limit = limit
        self.status = status
        self.headers = headers


class BrokerUnavailable(HubbubError):
    """The broker cannot be reached, or does not answer in time. Try again later.

    Args:
        reason: What has happened; never an address with its password.
        published: Whether what was to be published has been: `no`, or `unknown` where the answer was lost. After
            `unknown`, a retry with the same idempotency key publishes once.
    """

    def __init__(self, reason: str, *, published: Literal["no", "unknown"] = "no") -> None:
        super().__init__(reason)
        self.reason = reason
        self.published: Literal["no", "unknown"] = published


class InvalidMessage(HubbubError, ValueError):
    """A client sent what the endpoint's `Connection[In]` does not take.

    Raised by `Connection.receive` under `on_invalid="raise"`.

    Args:
        errors: One mapping for each fault, with `type`, `loc` and `msg`; never the input itself.
        close_code: The code that `on_invalid="close"` would close with.
    """

    def __init__(self, errors: Sequence[Mapping[str, Any]], close_code: CloseCode) -> None:
        super().__init__(errors)
        self.errors = errors
        self.close_code = close_code

    def __str__(self) -> str:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'message'}: {e['msg']}" for e in self.errors)
        return f"the client sent an invalid message ({faults})"
