"""What carries a connection: the server class for uvicorn, and the fallback over any ASGI server."""

from .protocol import WebSocketProtocol

__all__ = ("WebSocketProtocol",)
