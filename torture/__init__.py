"""Hubbub while workers, Redis and the network fail: is anything lost, and is it said? See `python -m torture -h`."""
