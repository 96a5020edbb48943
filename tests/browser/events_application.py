"""A page with a bare `EventSource`, and the channel that it listens to, on the broker that the environment names."""

import os

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from hubbub import Drain, History, Hub

hub = Hub(os.environ.get("HUBBUB_TEST_BROKER", "memory://"), drain=Drain(window_s=0.5))
app = FastAPI(lifespan=hub.lifespan)
news = hub.channels("news", history=History())

PAGE = """
<!doctype html>
<title>News</title>
<link rel="icon" href="data:,">
<p id="state">connecting</p>
<ul></ul>
<script>
  const show = (text) => {
    const line = document.createElement("li");
    line.textContent = text;
    document.querySelector("ul").append(line);
  };
  const state = document.querySelector("#state");
  const events = new EventSource("/events");
  events.onopen = () => { state.textContent = "open"; };
  events.onerror = () => { state.textContent = events.readyState === EventSource.CLOSED ? "closed" : "connecting"; };
  events.onmessage = (event) => show(event.data);
  events.addEventListener("reset", () => show("reset"));
</script>
"""


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.get("/events")
async def listen(request: Request) -> Response:
    return hub.events(request, news())


@app.post("/news")
async def publish(text: str) -> None:
    await news().publish(text)
