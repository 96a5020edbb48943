"""Stream: an answer that is written word by word, as a language model does it, and that survives a reload.

Run it with ``hubbub run examples.stream.app:app``, open http://127.0.0.1:8000, ask something, and reload the page in
the middle. The answer is made by a task of its own and published on a channel that remembers. A page that comes back
says which word it had last, and gets what it has missed, once, and then what is new.

The model is a fake that knows one text. Everything is kept in this process: with ``Hub("redis://…")`` the page may come
back to another worker, and nothing else changes.
"""

import asyncio
import logging
import random
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, StringConstraints

from hubbub import Connection, Envelope, History, Hub, Limits, Position, Since

HERE = Path(__file__).parent
ANSWERS_AT_ONCE = 100
PAUSE_S = 0.12
"""The longest pause between two words."""
GRACE_S = 60.0
"""How long an answer is written on while no page is open."""

TEXT = """\
Let me think. There are three ways to lose a part of an answer.

The page is closed while the words are under way. They were sent, and nobody was there to read them: so whoever writes \
must not be the one who sends. Here a task writes, and the connection only listens.

The page comes back and does not know where it was. So each word has a number, and the page keeps the number of the \
last one that it has shown.

The page comes back and the words are gone. So the channel remembers them for a while, and gives back those after that \
number, in order, before anything newer.

That is all. Reload this page as often as you like, in the middle of a sentence too: no word will be missing, and none \
will come twice."""

logger = logging.getLogger(__name__)


class Question(BaseModel):
    """What somebody asks."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    fails: bool = False


class Started(BaseModel):
    """Where the answer will be."""

    answer: str


class Asked(BaseModel):
    """The beginning: what was asked."""

    type: Literal["question"] = "question"
    text: str


class Word(BaseModel):
    """A word of the answer, and what separates it from the next one."""

    type: Literal["item"]
    item: str


class Ended(BaseModel):
    """The last one: the answer is there, the model has failed, or nobody has listened for a while."""

    type: Literal["end", "error", "abandoned"]


class ModelFailed(Exception):
    """The model has broken off."""


hub = Hub(limits=Limits(message_bytes=256, connections_per_address=100))
answers = hub.channels("answer:{answer}", history=History(size=2_000, ttl_s=600))
writing: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub:
        yield
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)


app = FastAPI(title="Stream", lifespan=lifespan)
app.mount("/static", StaticFiles(directory=HERE / "static"))
app.mount("/shared", StaticFiles(directory=HERE.parent / "shared"))
app.include_router(hub.docs())  # /realtime: the WebSocket endpoints, to look at and to try


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(HERE / "page.html")


@app.post("/answers", status_code=202)
async def ask(question: Question) -> Started:
    if len(writing) >= ANSWERS_AT_ONCE:
        raise HTTPException(503, "Too many answers are being written", headers={"Retry-After": "10"})
    answer = secrets.token_hex(8)
    # The question comes first, so that whoever opens the page finds a beginning.
    await answers(answer=answer).publish(Asked(text=question.text))
    task = asyncio.create_task(write(answer, question))
    writing.add(task)
    task.add_done_callback(writing.discard)
    return Started(answer=answer)


async def write(answer: str, question: Question) -> None:
    try:
        await answers(answer=answer).stream(words(question), grace_s=GRACE_S)
    except ModelFailed:
        logger.info("answer %s has failed", answer)  # the pages know: the stream has told them


async def words(question: Question) -> AsyncIterator[str]:
    """The model: it yields a word and what separates it from the next one, and takes its time."""
    pieces = pieces_of(question)
    for number, piece in enumerate(pieces):
        if question.fails and number == len(pieces) // 3:
            raise ModelFailed
        await asyncio.sleep(random.uniform(0, PAUSE_S))
        yield piece


def pieces_of(question: Question) -> list[str]:
    return re.findall(r"\S+\s*", f"You have asked: “{question.text}”\n\n{TEXT}")


@app.websocket("/ws/{answer}")
async def follow(
    connection: Annotated[Connection[str, Envelope[Asked | Word | Ended]], Depends(hub)],
    answer: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")],
    since: Since,
) -> None:
    """Follow an answer from its beginning, or from the position of the last word that came."""
    position = since or await beginning_of(answer)
    await connection.join(answers(answer=answer), since=position, envelope=True)
    async for _ in connection:
        pass


async def beginning_of(answer: str) -> Position | None:
    """Where to resume from to get all that there is, or ``None`` if there is nothing."""
    oldest = await answers(answer=answer).history(limit=1)
    return Position(oldest[0].position.epoch, oldest[0].position.offset - 1) if oldest else None
