"""Django Channels with its in-memory layer, on uvicorn."""

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

settings.configure(
    SECRET_KEY="of a benchmark",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        # The default of 100 messages would drop some.
        "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 100_000}}
    },
)
django.setup()


class ToAll(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.channel_layer.group_add("all", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("all", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("all", {"type": "publication", "text": text_data})

    async def publication(self, event: dict[str, str]) -> None:
        await self.send(text_data=event["text"])


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data)


routes = [path("ws", ToAll.as_asgi()), path("echo", Echo.as_asgi())]
app = ProtocolTypeRouter({"websocket": URLRouter(routes)})
