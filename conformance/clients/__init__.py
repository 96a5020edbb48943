"""The clients that applications have, against `hubbub run`: `make clients`, or `python -m conformance.clients`."""
