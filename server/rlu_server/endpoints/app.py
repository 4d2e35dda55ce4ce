"""The application's factory."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from rlu_server.endpoints import attestation, log, problems, service, sessions, tenant
from rlu_server.endpoints.context import Context
from rlu_server.endpoints.models import Problem


def create_app(context: Context, version: str) -> FastAPI:
    """Our own routes, answering from `context`.

    The OpenAPI document is at `/openapi.json`. There are no documentation pages: they would load scripts from elsewhere.
    """
    app = FastAPI(
        title="RLU",
        summary="Attestation, sessions, receipts and log of one instance",
        version=version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={
            "4XX": _problem("The request was refused."),
            "5XX": _problem("The server cannot serve this now."),
        },
    )
    app.state.context = context
    app.state.attestation_gate = attestation.Gate()
    problems.install(app)
    for router in (attestation.router, log.router, sessions.router, service.router, tenant.router):
        app.include_router(router)
    return app


def _problem(description: str) -> dict[str, Any]:
    schema = {"schema": Problem.model_json_schema()}
    return {"description": description, "content": {"application/problem+json": schema}}
