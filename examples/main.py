"""The four applications in one, with a page to choose from: ``hubbub run examples.main:app``."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from examples.chat.app import app as chat
from examples.game.app import app as game
from examples.notifications.app import app as notifications
from examples.stream.app import app as stream

HERE = Path(__file__).parent
APPLICATIONS = {"/chat": chat, "/notifications": notifications, "/game": game, "/stream": stream}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Enter the lifespans of the mounted applications, which a mount alone does not run."""
    async with AsyncExitStack() as stack:
        for application in APPLICATIONS.values():
            await stack.enter_async_context(application.router.lifespan_context(application))
        yield


app = FastAPI(title="Hubbub examples", lifespan=lifespan)
app.mount("/shared", StaticFiles(directory=HERE / "shared"))
for path, application in APPLICATIONS.items():
    app.mount(path, application)


@app.get("/", include_in_schema=False)
async def index() -> FileResponse:
    return FileResponse(HERE / "index.html")
