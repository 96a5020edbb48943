"""Notifications: an HTTP POST from anywhere reaches all devices of one user at once.

Run it with ``hubbub run examples.notifications.app:app``, open http://127.0.0.1:8000 in two tabs as "ada", and then::

    curl http://127.0.0.1:8000/notify/ada -H "content-type: application/json" -d '{"text": "Your tea is ready"}'

What is unread stays in step between the tabs, because each change goes to all of them. Everything is kept in this
process, within bounds: an application of your own would keep it in its database.
"""

from collections import OrderedDict
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, StringConstraints

from hubbub import Connection, Hub, Limits

HERE = Path(__file__).parent
NOTIFICATIONS_PER_USER = 50
USERS = 1_000

User = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=24, pattern=r"^\P{Cc}*$")
]  # no control characters


class Note(BaseModel):
    """What somebody posts."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=280)]
    urgent: bool = False


class Notification(Note):
    """What becomes of it: numbered, dated and, in time, read."""

    id: int
    at: datetime
    read: bool = False


class MarkRead(BaseModel):
    type: Literal["mark_read"]
    ids: Annotated[list[int], Field(max_length=NOTIFICATIONS_PER_USER)]


class Inbox(BaseModel):
    """Everything there is, when a device connects. It keeps no more than ``size`` later on."""

    type: Literal["inbox"] = "inbox"
    notifications: list[Notification]
    size: int = NOTIFICATIONS_PER_USER


class Arrived(BaseModel):
    type: Literal["arrived"] = "arrived"
    notification: Notification


class WereRead(BaseModel):
    type: Literal["were_read"] = "were_read"
    ids: list[int]


hub = Hub(limits=Limits(message_bytes=4_096, connections_per_user=20, connections_per_address=100))
numbers = count(1)
inboxes: OrderedDict[str, dict[int, Notification]] = OrderedDict()  # the user who was notified last is last

app = FastAPI(title="Notifications", lifespan=hub.lifespan)
app.mount("/static", StaticFiles(directory=HERE / "static"))
app.mount("/shared", StaticFiles(directory=HERE.parent / "shared"))
app.include_router(hub.docs())  # /realtime: the WebSocket endpoints, to look at and to try


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(HERE / "page.html")


@app.post("/notify/{user}", status_code=201)
async def notify(user: User, note: Note) -> Notification:
    notification = Notification(**note.model_dump(), id=next(numbers), at=datetime.now(UTC))
    store(user, notification)
    await hub.send(user, Arrived(notification=notification))
    return notification


def store(user: str, notification: Notification) -> None:
    inbox = inboxes.setdefault(user, {})
    inbox[notification.id] = notification
    inboxes.move_to_end(user)
    if len(inbox) > NOTIFICATIONS_PER_USER:
        del inbox[min(inbox)]
    if len(inboxes) > USERS:
        inboxes.popitem(last=False)


@app.websocket("/devices/{user}")
async def device(
    connection: Annotated[Connection[MarkRead, Inbox | Arrived | WereRead], Depends(hub)], user: User
) -> None:
    await connection.accept(user=user)
    await connection.send(Inbox(notifications=list(inboxes.get(user, {}).values())))
    async for message in connection:
        inbox = inboxes.get(user, {})
        read = [notification for id in message.ids if (notification := inbox.get(id)) and not notification.read]
        for notification in read:
            notification.read = True
        if read:
            await hub.send(user, WereRead(ids=[notification.id for notification in read]))
