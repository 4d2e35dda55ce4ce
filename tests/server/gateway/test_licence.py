"""The end of a licence as clients see it: the real gateway and the real attestor, with a software key."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fakes import rig as rigs
from fakes.attestor_process import AttestorProcess, Deployment
from fakes.rig import Rig
from fakes.vendor import DAY, Vendor
from rlu_server.adapters import sampler
from rlu_server.telemetry.counters import counted

CHAT, RESPONSES, MESSAGES, SESSIONS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/rlu/sessions",
)
NONCE = {"nonce": "A" * 22}
VENDOR = Vendor()
SETTINGS = """[licence]
file = "{directory}/licence.jws"
vendor_keys = ["{directory}/vendor.pub.pem"]
"""


class RealAttestor(AttestorProcess):
    """Stands where the rig's fake attestor would."""

    async def start(self) -> None:  # type: ignore[override]
        await asyncio.to_thread(super().start)

    async def stop(self) -> None:  # type: ignore[override]
        await asyncio.to_thread(super().stop)


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    while not await true():
        assert asyncio.get_running_loop().time() < deadline, "it never came to hold"
        await asyncio.sleep(0.05)


async def test_new_sessions_are_refused_and_open_ones_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    VENDOR.install(tmp_path, not_before=now - 100 * DAY, expires_at=now + 5 * DAY)
    deployment = Deployment(tmp_path, None, SETTINGS.format(directory=tmp_path))
    monkeypatch.setattr(rigs, "FakeAttestor", lambda socket: RealAttestor(deployment))
    monkeypatch.setattr(sampler, "PERIOD_S", 0.1)
    async with Rig(deployment.runtime) as rig:

        async def measured(text: str) -> bool:
            return text in await rig.metrics()

        async def opens() -> bool:
            return (await rig.call(SESSIONS, NONCE)).status == 201

        async def refuses() -> bool:
            return (await rig.call(SESSIONS, NONCE)).status == 403

        own = {"session-id": "a conversation"}
        opened = await rig.call(CHAT, rig.chat(), headers=own)
        assert opened.status == 200
        await eventually(lambda: measured("rlu_licence_refusing 0.0"))
        VENDOR.install(tmp_path, not_before=now - 100 * DAY, expires_at=now - 20 * DAY)
        await eventually(refuses)

        for path, body in (
            (CHAT, rig.chat()),
            (RESPONSES, {"model": "scripted", "input": "Hello"}),
            (MESSAGES, rig.chat(max_tokens=8)),
        ):
            answer = await rig.call(path, body)
            assert (answer.status, answer.json()["error"]["type"]) == (403, "permission_error")
            if path == MESSAGES:
                assert answer.json()["type"] == "error"
            else:
                assert answer.json()["error"]["code"] == "licence_expired"
        problem = await rig.call(SESSIONS, NONCE)
        assert (problem.status, problem.json()["code"]) == (403, "licence_expired")

        again = await rig.call(CHAT, rig.chat(), headers=own)
        assert (again.status, again.session) == (200, opened.session)
        await eventually(lambda: measured("rlu_licence_refusing 1.0"))
        left = re.search(r"^rlu_licence_expires_seconds (\S+)$", await rig.metrics(), re.MULTILINE)
        assert left is not None
        assert -21 * DAY < float(left[1]) <= -20 * DAY

        # What telemetry would count is what the gateway exports.
        assert counted((await rig.metrics()).encode())["rlu_receipts_total", "complete"] == 2
        assert (deployment.state / "attestation" / "licence-time").exists()

        # A new licence, and everything goes on.
        VENDOR.install(tmp_path, not_before=now - 100 * DAY, expires_at=now + 400 * DAY)
        await eventually(opens)
