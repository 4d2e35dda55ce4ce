"""Our own routes, as a FastAPI application: attestation, sessions, receipts, log, configuration, health and metrics.

It holds no state and decides nothing: it reads the request, asks the `Context` that the gateway gives it, and writes the answer. The
relayed routes (`/v1/chat/completions` and so on) never come through here.
"""

from rlu_server.endpoints.app import create_app
from rlu_server.endpoints.context import (
    Context,
    Distribution,
    Identity,
    Measurement,
    Sample,
    SessionView,
    Signed,
)

__all__ = [
    "Context",
    "Distribution",
    "Identity",
    "Measurement",
    "Sample",
    "SessionView",
    "Signed",
    "create_app",
]
