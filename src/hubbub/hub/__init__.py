"""The hub's core: who is connected, who hears what, and what becomes of a client that is too slow."""
