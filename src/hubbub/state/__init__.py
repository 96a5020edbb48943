"""Data structures with invariants: no asyncio, no clock; the time is passed in."""
