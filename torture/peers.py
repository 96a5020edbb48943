"""Those outside: clients that hear, resume wherever they can, and hold all against their numbers; and publishers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from hubbub import Position

from .verifier import Follower

OPEN_S = 10.0
ANSWER_S = 12.0
"""How long a publisher waits for an answer: longer than a worker waits for Redis."""
PAUSES_S = (0.05, 0.3)
"""How long anybody waits before the next attempt."""
BEHIND_S = 1.0
"""What a publisher that was held up makes good; the rest of its pause stays one."""
PADDING = "." * 80

_WRONG = (OSError, TimeoutError, WebSocketException)


class Client:
    """Hears channels until it is stopped; whenever its connection ends it goes to any worker and resumes.

    Args:
        ports: Where the workers are.
        followers: What it hears, by the rooms.
        chance: Where it goes, and when.
        may_lose: Whether a notice of a loss is due now.

    Attributes:
        connections: How many it has had.
    """

    def __init__(
        self,
        ports: Sequence[int],
        followers: Mapping[str, Follower],
        chance: random.Random,
        may_lose: Callable[[], bool],
    ) -> None:
        self.followers = followers
        self.connections = 0
        self._ports = ports
        self._chance = chance
        self._may_lose = may_lose
        self._socket: ClientConnection | None = None

    async def run(self) -> None:
        """Hear until cancelled."""
        while True:
            with contextlib.suppress(*_WRONG):
                await self._hear()
            await asyncio.sleep(self._chance.uniform(*PAUSES_S))

    def hang_up(self) -> None:
        """Reset the connection."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def _hear(self) -> None:
        query = [("room", room) for room in self.followers]
        query += [("since", str(follower.position or "")) for follower in self.followers.values()]
        url = f"ws://127.0.0.1:{self._chance.choice(self._ports)}/ws?{urlencode(query)}"
        async with connect(url, open_timeout=OPEN_S, ping_interval=None, compression=None, proxy=None) as socket:
            self._socket = socket
            self.connections += 1
            async for text in socket:
                self.take(json.loads(text))

    def take(self, message: dict[str, object]) -> None:
        """Take what a worker sends: a publication, where the client is after a join, or the notice of a loss."""
        follower = self.followers[str(message["channel"]).removeprefix("room:")]
        place = Position(message["epoch"], message["offset"])  # type: ignore[arg-type]  # it checks
        if "data" in message:
            data = message["data"]
            assert isinstance(data, dict)
            follower.received(place, data["number"], data["attempt"])
        elif message["recovered"]:
            follower.joined(place)
        else:
            follower.told(place, is_due=self._may_lose())


class Publisher:
    """Publishes numbers on one channel, each until it is acknowledged, and then the next.

    Args:
        ports: Where the workers are.
        room: The channel's parameter.
        interval_s: From one publication to the next where nothing is in the way.
        chance: Where it goes, and when.

    Attributes:
        started: The last number that was given to a worker.
        acknowledged: The last number of which a worker has said that it is published.
        answers: How often something else was said: `no` and `unknown` by a worker, or `silence`.
    """

    def __init__(self, ports: Sequence[int], room: str, interval_s: float, chance: random.Random) -> None:
        self.room = room
        self.started = 0
        self.acknowledged = 0
        self.answers: Counter[str] = Counter()
        self._ports = ports
        self._interval_s = interval_s
        self._chance = chance
        self._attempt = 0
        self._is_stopping = False

    def stop(self) -> None:
        """Begin with no other number."""
        self._is_stopping = True

    async def run(self) -> None:
        """Publish until stopped, and the last number has been acknowledged."""
        while not self._is_done:
            try:
                await self._publish()
            except _WRONG:
                if self._attempt:
                    self.answers["silence"] += 1
            await asyncio.sleep(self._chance.uniform(*PAUSES_S))

    @property
    def _is_done(self) -> bool:
        return self._is_stopping and self.acknowledged == self.started

    async def _publish(self) -> None:
        """Publish by one worker until that fails."""
        url = f"ws://127.0.0.1:{self._chance.choice(self._ports)}/publish/{self.room}"
        async with connect(
            url, open_timeout=OPEN_S, close_timeout=1, ping_interval=None, compression=None, proxy=None
        ) as socket:
            loop = asyncio.get_running_loop()
            due = loop.time()
            while not self._is_done:
                if self.acknowledged == self.started:
                    self.started += 1
                    self._attempt = 0
                self._attempt += 1
                message = {"number": self.started, "attempt": self._attempt, "padding": PADDING}
                async with asyncio.timeout(ANSWER_S):
                    await socket.send(json.dumps(message))
                    answer = json.loads(await socket.recv())
                if "unavailable" in answer:
                    self.answers[answer["unavailable"]] += 1
                    return
                self._acknowledge(answer["number"])
                due = max(due + self._interval_s, loop.time() - BEHIND_S)
                await asyncio.sleep(due - loop.time())

    def _acknowledge(self, number: int) -> None:
        if number != self.started:
            raise AssertionError(f"{number} is acknowledged, and {self.started} was published")
        self.acknowledged = number
        self._attempt = 0
