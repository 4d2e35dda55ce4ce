"""Health, readiness and metrics, for the platform and the operator."""

from __future__ import annotations

from fastapi import APIRouter, Response

from rlu_server.core.errors import CATALOGUE
from rlu_server.endpoints.access import Gateway
from rlu_server.endpoints.metrics import CONTENT_TYPE, exposition
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


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(gateway: Gateway) -> Response:
    """Prometheus metrics. Labels come from fixed sets; nothing of a request, tenant or session is in them."""
    return Response(exposition(gateway.measurements()), media_type=CONTENT_TYPE)
