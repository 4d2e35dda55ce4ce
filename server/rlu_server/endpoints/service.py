"""Health and readiness, for the platform. Metrics have a listener of their own (`gateway/listening.py`)."""

from __future__ import annotations

from fastapi import APIRouter, Response

from rlu_server.core.errors import CATALOGUE
from rlu_server.endpoints.access import Gateway
from rlu_server.endpoints.models import Health, Readiness, Reason

router = APIRouter(tags=["service"])


@router.get("/healthz")
async def health() -> Health:
    """The gateway's process is alive; says nothing about the engine or the signer."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readiness(gateway: Gateway, response: Response) -> Readiness:
    """Whether requests would be served now, and if not, every reason by its code."""
    reasons = [
        Reason(code=code, detail=CATALOGUE[code].message if code in CATALOGUE else "Not ready.")
        for code in gateway.not_ready()
    ]
    if reasons:
        response.status_code = 503
    return Readiness(ready=not reasons, reasons=reasons)
