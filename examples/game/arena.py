"""The rules of the game. They know nothing of sockets or of time: one step is one tick."""

from math import hypot
from random import uniform
from typing import Annotated

from pydantic import BaseModel, Field

SIZE = 600.0
STEP = 12.0
REACH = 26.0
MARGIN = 20.0
GEMS = 12


class Player(BaseModel):
    id: str
    name: str
    x: float = Field(default_factory=lambda: uniform(0.2, 0.8) * SIZE)
    y: float = Field(default_factory=lambda: uniform(0.2, 0.8) * SIZE)
    score: int = 0
    heading: Annotated[tuple[float, float], Field(exclude=True)] = (0.0, 0.0)


class Gem(BaseModel):
    x: float = Field(default_factory=lambda: uniform(0.05, 0.95) * SIZE)
    y: float = Field(default_factory=lambda: uniform(0.05, 0.95) * SIZE)


def inside(coordinate: float) -> float:
    return round(min(max(coordinate, MARGIN), SIZE - MARGIN), 1)


class Arena:
    """The players and gems of one arena, and the rules."""

    def __init__(self) -> None:
        self.players: dict[str, Player] = {}
        self.gems = [Gem() for _ in range(GEMS)]

    def step(self) -> None:
        for player in self.players.values():
            x, y = player.heading
            length = max(hypot(x, y), 1.0)  # two keys at once are not faster than one
            player.x = inside(player.x + x / length * STEP)
            player.y = inside(player.y + y / length * STEP)
            for number, gem in enumerate(self.gems):
                if hypot(gem.x - player.x, gem.y - player.y) < REACH:
                    player.score += 1
                    self.gems[number] = Gem()
