"""The test kit: many clients in one process, a clock that is moved by hand, a transport that records.

Nothing in `hubbub` imports it; `pip install hubbub` brings it along.
"""

from .client import Client, ClientConnection, Refused
from .clock import ManualClock
from .transport import RecordingTransport

__all__ = ("Client", "ClientConnection", "ManualClock", "RecordingTransport", "Refused")
