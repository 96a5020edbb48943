"""The contract of `PresenceStore` as tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from ...interfaces import Departure, Entered, PresenceEntry, PresenceStore
from .kit import LONG_S, SHORT_S, OpenStore, any_name, eventually

__all__ = ("PresenceStoreConformance",)


class PresenceStoreConformance:
    """What every `PresenceStore` does. Override the fixture `open_store`.

    Where two stores never meet, set `is_shared = False`: what two of them do together is then asked of one.
    """

    is_shared: bool = True
    """Whether two stores that `open_store` gives have the same contents."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Return what opens a store."""
        pytest.fail("override the fixture open_store: let it return a function that opens a new presence store")

    @pytest.fixture
    def channel(self) -> str:
        """Return a channel that no other test uses."""
        return f"conformance-{uuid4().hex}"

    @asynccontextmanager
    async def _two(self, open_store: OpenStore) -> AsyncIterator[tuple[PresenceStore, PresenceStore]]:
        async with open_store() as one:
            if not self.is_shared:
                yield one, one
                return
            async with open_store() as other:
                yield one, other

    def _entry(self, connection: str, user: str | None, since: float = 1.0, info: Any = None) -> PresenceEntry:
        return PresenceEntry(connection, user, info, since)

    async def _wait_until_gone(self, store: PresenceStore, channel: str, user: str) -> None:
        async def is_gone() -> bool:
            return all(entry.user != user for entry in await store.members(channel))

        await eventually(is_gone)

    async def test_an_empty_channel(self, open_store: OpenStore, channel: str) -> None:
        async with open_store() as store:
            assert list(await store.members(channel)) == []
            assert tuple(await store.count(channel)) == (0, 0)
            assert await store.leave(channel, "unknown") is None
            assert list(await store.refresh({}, LONG_S)) == []
            assert list(await store.refresh({channel: ()}, LONG_S)) == []

    async def test_a_user_comes_and_goes_once(self, open_store: OpenStore, channel: str) -> None:
        async with self._two(open_store) as (one, other):
            assert await one.enter(channel, self._entry("a", "ann"), LONG_S) == Entered(True, 1)
            assert await other.enter(channel, self._entry("b", "ann"), LONG_S) == Entered(False, 2)
            assert await one.enter(channel, self._entry("c", "bob"), LONG_S) == Entered(True, 1)
            assert tuple(await other.count(channel)) == (3, 2)
            assert await one.leave(channel, "a") is None
            assert await one.leave(channel, "a") is None
            assert await other.leave(channel, "b") == Departure(channel, "ann")
            assert await other.leave(channel, "b") is None
            assert tuple(await one.count(channel)) == (1, 1)
            assert await one.enter(channel, self._entry("a", "ann"), LONG_S) == Entered(True, 1)

    async def test_members_are_listed_the_earliest_first(self, open_store: OpenStore, channel: str) -> None:
        entries = [self._entry(str(n), f"user {n % 3}", 1_700_000_000.25 + n, {"n": n}) for n in range(12)]
        async with self._two(open_store) as (one, other):
            for entry in entries[6:] + entries[:6]:
                await one.enter(channel, entry, LONG_S)
            assert list(await other.members(channel)) == entries
            assert tuple(await other.count(channel)) == (12, 3)

    async def test_nobody_in_particular_is_counted_only(self, open_store: OpenStore, channel: str) -> None:
        async with open_store() as store:
            assert not (await store.enter(channel, self._entry("a", None), LONG_S)).is_first
            assert not (await store.enter(channel, self._entry("b", None), LONG_S)).is_first
            assert list(await store.members(channel)) == []
            assert tuple(await store.count(channel)) == (2, 0)
            assert await store.leave(channel, "a") is None
            assert tuple(await store.count(channel)) == (1, 0)

    async def test_entering_again_replaces_the_entry(self, open_store: OpenStore, channel: str) -> None:
        async with open_store() as store:
            await store.enter(channel, self._entry("a", "ann", info="old"), LONG_S)
            newer = self._entry("a", "ann", info="new")
            assert await store.enter(channel, newer, LONG_S) == Entered(False, 1)
            assert list(await store.members(channel)) == [newer]
            assert tuple(await store.count(channel)) == (1, 1)
            assert await store.leave(channel, "a") == Departure(channel, "ann")

    async def test_channels_have_nothing_to_do_with_each_other(self, open_store: OpenStore, channel: str) -> None:
        async with open_store() as store:
            await store.enter(channel, self._entry("a", "ann"), LONG_S)
            other = f"{channel}.other"
            assert await store.enter(other, self._entry("a", "ann"), LONG_S) == Entered(True, 1)
            assert await store.leave(channel, "a") == Departure(channel, "ann")
            assert tuple(await store.count(other)) == (1, 1)

    @any_name
    async def test_names_are_any_text(self, open_store: OpenStore, channel: str, name: str) -> None:
        entry = self._entry(f"{name}1", name, info={name: [name, None, 1.5, True]})
        channel = f"{name}{channel}{name}"
        async with open_store() as store:
            assert await store.enter(channel, entry, LONG_S) == Entered(True, 1)
            assert list(await store.refresh({channel: [entry]}, LONG_S)) == []
            assert list(await store.members(channel)) == [entry]
            assert await store.leave(channel, entry.connection) == Departure(channel, name)

    async def test_an_empty_name_is_somebody(self, open_store: OpenStore, channel: str) -> None:
        async with open_store() as store:
            assert (await store.enter(channel, self._entry("a", ""), LONG_S)).is_first
            assert tuple(await store.count(channel)) == (1, 1)
            assert await store.leave(channel, "a") == Departure(channel, "")

    @pytest.mark.parametrize("info", [None, False, 0, "", [], {}, {"a": [1, {"b": None}], "ü": "\0😀"}])
    async def test_an_info_is_any_json(self, open_store: OpenStore, channel: str, info: Any) -> None:
        entry = self._entry("a", "ann", 1_700_000_000.123456, info)
        async with open_store() as store:
            await store.enter(channel, entry, LONG_S)
            assert list(await store.members(channel)) == [entry]

    async def test_overlapping_calls_have_one_first_and_one_last(self, open_store: OpenStore, channel: str) -> None:
        entries = [self._entry(str(number), "ann", number) for number in range(40)]
        async with self._two(open_store) as stores:
            entered = await asyncio.gather(
                *(stores[n % 2].enter(channel, entry, LONG_S) for n, entry in enumerate(entries))
            )
            assert sum(is_first for is_first, _ in entered) == 1
            assert sorted(connections for _, connections in entered) == list(range(1, 41))
            left = await asyncio.gather(
                *(stores[n % 2].leave(channel, entry.connection) for n, entry in enumerate(entries))
            )
            assert [departure for departure in left if departure is not None] == [Departure(channel, "ann")]
            assert tuple(await stores[0].count(channel)) == (0, 0)

    # Leases

    async def test_a_lease_ends(self, open_store: OpenStore, channel: str) -> None:
        async with self._two(open_store) as (one, other):
            await one.enter(channel, self._entry("a", "ann"), SHORT_S)
            await one.enter(channel, self._entry("b", None), SHORT_S)
            await other.enter(channel, self._entry("c", "bob"), LONG_S)
            await self._wait_until_gone(other, channel, "ann")

            async def is_one_left() -> bool:
                return tuple(await other.count(channel)) == (1, 1)

            await eventually(is_one_left)
            assert [entry.connection for entry in await other.members(channel)] == ["c"]

    async def test_who_is_gone_is_told_once(self, open_store: OpenStore, channel: str) -> None:
        kept = self._entry("kept", "bob")
        async with self._two(open_store) as (one, other):
            for number in range(20):
                await one.enter(channel, self._entry(str(number), f"user {number % 10}"), SHORT_S)
            await other.enter(channel, kept, LONG_S)
            told: list[Departure] = []

            async def are_all_told() -> bool:
                for departures in await asyncio.gather(
                    *(store.refresh({channel: [kept]}, LONG_S) for store in (one, other, one, other))
                ):
                    told.extend(departures)
                return len(told) >= 10

            await eventually(are_all_told)
            for store in (one, other):
                told.extend(await store.refresh({channel: [kept]}, LONG_S))
            assert tuple(await one.count(channel)) == (1, 1)
        assert sorted(told) == [Departure(channel, f"user {number}") for number in range(10)]

    async def test_who_has_another_connection_is_not_gone(self, open_store: OpenStore, channel: str) -> None:
        kept = self._entry("kept", "ann")
        async with self._two(open_store) as (one, other):
            await one.enter(channel, self._entry("lost", "ann"), SHORT_S)
            await other.enter(channel, kept, LONG_S)

            async def is_one_left() -> bool:
                assert list(await other.refresh({channel: [kept]}, LONG_S)) == []
                return tuple(await other.count(channel)) == (1, 1)

            await eventually(is_one_left)
            assert await other.leave(channel, "kept") == Departure(channel, "ann")

    async def test_whose_last_lease_leaves_is_gone_once(self, open_store: OpenStore, channel: str) -> None:
        told: list[Departure] = []
        async with self._two(open_store) as (one, other):
            await one.enter(channel, self._entry("lost", "ann"), SHORT_S)
            await other.enter(channel, self._entry("left", "ann"), LONG_S)

            async def is_one_left() -> bool:
                return tuple(await other.count(channel)) == (1, 1)

            await eventually(is_one_left)
            departure = await other.leave(channel, "left")
            told.extend([departure] if departure is not None else [])
            told.extend(await one.refresh({channel: ()}, LONG_S))
            told.extend(await other.refresh({channel: ()}, LONG_S))
        assert told == [Departure(channel, "ann")]

    async def test_who_comes_back_before_being_told_gone_was_never_away(
        self, open_store: OpenStore, channel: str
    ) -> None:
        async with self._two(open_store) as (one, other):
            await one.enter(channel, self._entry("lost", "ann"), SHORT_S)
            await self._wait_until_gone(other, channel, "ann")
            back = self._entry("back", "ann")
            assert await other.enter(channel, back, LONG_S) == Entered(False, 1)
            assert list(await other.refresh({channel: [back]}, LONG_S)) == []
            assert tuple(await one.count(channel)) == (1, 1)

    async def test_refreshing_renews(self, open_store: OpenStore, channel: str) -> None:
        ann = self._entry("a", "ann")
        async with self._two(open_store) as (one, other):
            await one.enter(channel, ann, SHORT_S)
            assert list(await one.refresh({channel: [ann]}, LONG_S)) == []
            await other.enter(channel, self._entry("b", "bob"), SHORT_S)
            await self._wait_until_gone(other, channel, "bob")
            assert list(await other.members(channel)) == [ann]

    async def test_refreshing_comes_before_taking_out(self, open_store: OpenStore, channel: str) -> None:
        ann = self._entry("a", "ann")
        async with open_store() as store:
            await store.enter(channel, ann, SHORT_S)
            await self._wait_until_gone(store, channel, "ann")
            assert list(await store.refresh({channel: [ann]}, LONG_S)) == []
            assert list(await store.members(channel)) == [ann]

    async def test_refreshing_enters_what_is_missing(self, open_store: OpenStore, channel: str) -> None:
        ann, nobody, bob = self._entry("a", "ann", info=[1]), self._entry("n", None), self._entry("b", "bob")
        other_channel = f"{channel}.other"
        async with self._two(open_store) as (one, other):
            assert list(await one.refresh({channel: [ann, nobody], other_channel: [bob]}, LONG_S)) == []
            assert list(await other.members(channel)) == [ann]
            assert tuple(await other.count(channel)) == (2, 1)
            assert list(await other.members(other_channel)) == [bob]
            assert await other.enter(channel, self._entry("c", "ann"), LONG_S) == Entered(False, 2)

    async def test_refreshing_looks_at_its_own_channels_only(self, open_store: OpenStore, channel: str) -> None:
        other_channel = f"{channel}.other"
        bob = self._entry("b", "bob")
        async with open_store() as store:
            await store.enter(channel, self._entry("a", "ann"), SHORT_S)
            await self._wait_until_gone(store, channel, "ann")
            assert list(await store.refresh({other_channel: [bob]}, LONG_S)) == []
            departures = list(await store.refresh({channel: (), other_channel: [bob]}, LONG_S))
        assert departures == [Departure(channel, "ann")]
