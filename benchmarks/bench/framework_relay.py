"""A streaming relay of FastAPI and httpx, as most gateways write it: `framework_relay.py UDS PORT`. A peer to measure, not a model."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask


def application(uds: str) -> FastAPI:
    client = httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=uds, limits=httpx.Limits(max_connections=None)),
        base_url="http://engine",
        timeout=None,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/{path:path}")
    async def relay(path: str, request: Request) -> StreamingResponse:
        headers = {"content-type": request.headers.get("content-type", "")}
        forwarded = client.build_request("POST", f"/{path}", content=await request.body(), headers=headers)
        answer = await client.send(forwarded, stream=True)
        return StreamingResponse(
            answer.aiter_raw(),
            answer.status_code,
            {"content-type": answer.headers["content-type"]},
            background=BackgroundTask(answer.aclose),
        )

    return app


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), port=int(sys.argv[2]), log_level="error", access_log=False)
