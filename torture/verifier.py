"""Whether a client has got everything once and in order, or was told that it has not.

Theory of operation. Each channel has one publisher, which numbers its messages 1, 2, 3, … and begins with one when the
one before is acknowledged. So in one epoch of a history numbers are as consecutive as offsets, and a client may skip
some, or come into another epoch, only where it was told of a loss. Whoever publishes says in the message which attempt
it is: where Redis has lost data, it has lost the key that would have told a repetition too, so the message that was
under way may come again, in the new epoch and after the notice of the loss, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hubbub import Position

COMPLAINTS = 20
"""How many are kept in words."""


@dataclass(slots=True)
class Tally:
    """What all clients have seen.

    Attributes:
        delivered: Publications that came when they were due.
        lost: Publications that did not come, and nobody said so.
        duplicated: Publications that came again.
        reordered: Publications that came after a later one.
        contradicted: Positions that do not go on from the one before.
        declared: Notices of a loss after a start of Redis.
        undue: Notices of a loss though everything was still there.
        missed: Publications that did not come, as was declared.
        repeated: Publications that came again in another epoch.
        complaints: What is wrong, in words.
    """

    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    contradicted: int = 0
    declared: int = 0
    undue: int = 0
    missed: int = 0
    repeated: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.duplicated or self.reordered or self.contradicted or self.undue)

    def complain(self, text: str) -> None:
        """Keep what is wrong in words, if there is not too much already."""
        if len(self.complaints) < COMPLAINTS:
            self.complaints.append(text)


class Follower:
    """One client on one channel.

    Args:
        name: What complaints call it.
        tally: What is counted for all.

    Attributes:
        number: The highest number that was received.
        position: From where the client would resume.
    """

    def __init__(self, name: str, tally: Tally) -> None:
        self.number = 0
        self.position: Position | None = None
        self._name = name
        self._tally = tally
        self._epoch = ""
        self._is_told = False
        self._lost: set[int] = set()
        self._missed: set[int] = set()

    def joined(self, position: Position) -> None:
        """The client has joined, and has got all that it had missed."""
        if self.position is None:
            self.position = position
        elif self.position != position:
            self._tally.contradicted += 1
            self._complain(f"has joined at {position} and is at {self.position}")

    def told(self, position: Position, *, is_due: bool) -> None:
        """A notice of a loss before `position`, at a join or later; it is due after a start of Redis."""
        if is_due:
            self._tally.declared += 1
        else:
            self._tally.undue += 1
            self._complain(f"is told of a loss at {position} and is at {self.position}")
        self.position = position
        self._is_told = True

    def received(self, position: Position, number: int, attempt: int) -> None:
        """A publication."""
        if number > self.number:
            self._advance(number)
        elif number in self._lost or number in self._missed:
            self._late(number)
            return
        elif not (number == self.number and attempt > 1 and self._is_told and position.epoch != self._epoch):
            self._tally.duplicated += 1
            self._complain(f"gets {number} at {position} again and has {self.number} at {self.position}")
            return
        else:
            self._tally.repeated += 1
        self._check(position)
        self.position = position
        self._epoch = position.epoch
        self._is_told = False

    def ends(self, number: int) -> None:
        """It is quiet, and this was the last number."""
        tail = range(self.number + 1, number + 1)
        if tail:
            self._tally.lost += len(tail)
            self._complain(f"has {self.number} at {self.position} at the end, not {number}")

    def _advance(self, number: int) -> None:
        skipped = range(self.number + 1, number)
        if skipped and self._is_told:
            self._missed.update(skipped)
            self._tally.missed += len(skipped)
        elif skipped:
            self._lost.update(skipped)
            self._tally.lost += len(skipped)
            self._complain(f"gets {number} after {self.number} at {self.position}: {len(skipped)} lost")
        self.number = number
        self._tally.delivered += 1

    def _late(self, number: int) -> None:
        if number in self._lost:
            self._lost.remove(number)
            self._tally.lost -= 1
        else:
            self._missed.remove(number)
            self._tally.missed -= 1
        self._tally.reordered += 1
        self._complain(f"gets {number} after {self.number}")

    def _check(self, position: Position) -> None:
        before = self.position
        if before is not None and position != Position(before.epoch, before.offset + 1):
            self._tally.contradicted += 1
            self._complain(f"gets {self.number} at {position} and was at {before}")

    def _complain(self, text: str) -> None:
        self._tally.complain(f"{self._name} {text}")
