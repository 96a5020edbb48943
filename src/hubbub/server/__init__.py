"""What carries a connection: today the fallback over any ASGI server."""
