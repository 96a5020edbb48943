"""Hubbub's server against the Autobahn testsuite: `make autobahn`, or `python -m conformance --help`."""
