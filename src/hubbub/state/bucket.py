"""A token bucket: so many a second on average, so many at once."""

from __future__ import annotations

__all__ = ("TokenBucket",)


class TokenBucket:
    """Counts what comes in against a rate.

    Args:
        rate: Tokens added each second.
        burst: Tokens that the bucket holds when it is full, as it is at the start.
        now: The time in seconds, on the clock that `take` will be asked with.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._updated = now

    def take(self, now: float) -> bool:
        """Take one token and return whether there was one."""
        earned = (now - self._updated) * self._rate
        self._updated = now
        if self._tokens > self._burst:
            self._tokens = max(self._burst, self._tokens - earned)  # what a grant gave lapses as it was earned
        else:
            self._tokens = min(self._burst, self._tokens + earned)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def grant(self, seconds: float, now: float) -> None:
        """Add what `seconds` earn, beyond the burst if need be; what is beyond it lapses in as many seconds.

        For a pause in which it was us who did not read: what a well-behaved client sent meanwhile arrives at once.
        """
        self._tokens += seconds * self._rate
        self._updated = now
