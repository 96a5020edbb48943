"""Messages as they go over the wire: pure functions and values, no asyncio."""
