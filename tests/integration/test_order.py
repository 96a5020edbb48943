"""Promise 1: on one connection messages arrive in the order in which the hub accepted them.

Several tasks send at once, in all the ways that there are, while one client is slow: its messages go through the
server's buffer, the kernel's and the hub's outbox, those of the others straight through.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI

from hubbub import Connection, Hub, Outbox
from tests.integration.clients import RawClient
from tests.integration.deadline import within
from tests.integration.servers import serving

pytestmark = pytest.mark.usefixtures("each_class")

CLIENTS = tuple(str(number) for number in range(8))
SLOW, *FAST = CLIENTS
EVEN, ODD = CLIENTS[0::2], CLIENTS[1::2]
TASKS = 4
ROUNDS = 160
PADDING = "." * 400
SMALL_BUFFER = 4_096


@asynccontextmanager
async def connected(hub: Hub) -> AsyncIterator[tuple[dict[str, RawClient], dict[str, Connection]]]:
    """Give the clients and their connections by name; each has joined the channel `even` or `odd`."""
    app = FastAPI(lifespan=hub.lifespan)
    connections: dict[str, Connection] = {}

    @app.websocket("/{name}")
    async def endpoint(connection: Annotated[Connection, Depends(hub)], name: str) -> None:
        await connection.accept(user=name)
        await connection.join("even" if name in EVEN else "odd")
        connections[name] = connection
        await connection.send("ready")
        async for _ in connection:
            pass

    async with serving(app, send_buffer=SMALL_BUFFER) as port:
        clients = {name: await RawClient.connect(port, f"/{name}", receive_buffer=SMALL_BUFFER) for name in CLIENTS}
        try:
            for client in clients.values():
                assert await read(client, 1) == ["ready"]
            yield clients, connections
        finally:
            for client in clients.values():
                client.hang_up()


async def read(client: RawClient, count: int) -> list[str]:
    """Return the next messages without their padding."""
    return [(await client.receive_frame())[1].decode().rstrip(".") for _ in range(count)]


async def test_every_client_gets_everything_in_the_order_of_acceptance() -> None:
    hub = Hub(outbox=Outbox(bytes=16 * 1024 * 1024))
    accepted: defaultdict[str, list[str]] = defaultdict(list)

    async def send(how: Callable[..., Awaitable[None]], *arguments: Any, recipients: Sequence[str]) -> None:
        *to, message = arguments
        for recipient in recipients:
            accepted[recipient].append(message)
        # Nothing is awaited between these entries and the acceptance.
        await how(*to, message + PADDING)

    async with connected(hub) as (clients, connections):

        async def one_task(task: int) -> None:
            for number in range(ROUNDS):
                one, text = CLIENTS[(task + number) % len(CLIENTS)], f"{task} {number}"
                await send(hub.broadcast, f"{text} broadcast", recipients=CLIENTS)
                await send(hub.publish, "even", f"{text} publish", recipients=EVEN)
                await send(hub.channel("odd").publish, f"{text} publish", recipients=ODD)
                await send(hub.send, one, f"{text} user", recipients=[one])
                await send(connections[one].send, f"{text} send", recipients=[one])
                await send(connections[one].websocket.send_text, f"{text} raw", recipients=[one])

        counts = {name: TASKS * ROUNDS * 2 + TASKS * ROUNDS // len(CLIENTS) * 3 for name in CLIENTS}
        reading = asyncio.gather(*(read(clients[name], counts[name]) for name in FAST))
        await asyncio.gather(*(one_task(task) for task in range(TASKS)))
        received = dict(zip(FAST, await reading, strict=True))
        assert hub.statistics().queued_bytes > 0, "the slow client is not behind: this shows nothing"
        received[SLOW] = await read(clients[SLOW], counts[SLOW])

    assert received == accepted


async def test_sends_that_wait_for_room_keep_the_order_of_each_task() -> None:
    hub = Hub(outbox=Outbox(bytes=65_536))
    async with connected(hub) as (clients, connections):
        one_waits = asyncio.Event()

        async def one_task(task: int) -> list[str]:
            sent = []
            for number in range(ROUNDS):
                sent.append(f"{task} {number} send")
                sending = asyncio.ensure_future(connections[SLOW].send(sent[-1] + PADDING))
                await asyncio.sleep(0)
                if not sending.done():
                    one_waits.set()
                await sending
                if number % 16 == 0:
                    sent.append(f"{task} {number} broadcast")
                    await hub.broadcast(sent[-1] + PADDING)
            return sent

        async def read_late(count: int) -> list[str]:
            await within(one_waits.wait())
            return await read(clients[SLOW], count)

        broadcasts = TASKS * ROUNDS // 16
        sent, slow, *others = await asyncio.gather(
            asyncio.gather(*(one_task(task) for task in range(TASKS))),
            read_late(TASKS * ROUNDS + broadcasts),
            *(read(clients[name], broadcasts) for name in FAST),
        )

    assert [[message for message in slow if message.startswith(f"{task} ")] for task in range(TASKS)] == sent
    assert others == [[message for message in slow if message.endswith("broadcast")]] * len(FAST)
