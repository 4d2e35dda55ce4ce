"""The known answer is asked for at every start of the engine, not only at the first."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from deployment import make_settings, running

from rlu_server import models
from rlu_server.engine import readiness

ANSWER = "This is what the stand-in always says."  # stand_in/vllm/entrypoints/openai/api_server.py


async def test_a_restarted_engine_that_answers_otherwise_does_not_serve(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    model = tmp_path / "m"
    (model / readiness.CANARY_FILE).write_text(json.dumps({"prompt": "hello", "expect": ANSWER}))
    async with running(tmp_path, settings) as up:
        assert (up.said("engine.known_answer"), up.said("engine.known_answer_wrong")) == (1, 0)
        assert (await up.ask())[0] == 200
        (model / "model.sig").touch()
        assert up.server.engine.child is not None
        os.kill(up.server.engine.child.pid, signal.SIGKILL)
        await up.until(lambda: up.said("engine.start_failed") >= 1)
        assert up.said("engine.known_answer_wrong") >= 1
        status, answer, _ = await up.ask()
        assert (status, answer["error"]["code"]) == (503, "engine_unavailable")
        assert (await up.call("GET", "/readyz"))[0] == 503
        assert ANSWER not in json.dumps(up.events)

        (model / "model.sig").unlink()
        await up.until(lambda: up.said("engine.ready") == 2)
        await up.until(lambda: up.said("engine_ready") == 2)
        assert (await up.ask())[0] == 200
        assert up.said("engine.known_answer") >= 3


def test_the_manifest_covers_the_known_answer(tmp_path: Path) -> None:
    make_settings(tmp_path)
    model = tmp_path / "m"
    digests = set()
    for content in (None, '{"prompt": "p", "expect": "e"}', '{"prompt": "p", "expect": "f"}'):
        if content is not None:
            (model / readiness.CANARY_FILE).write_text(content)
        digests.add(models.measure(model, None).sha256)
    assert len(digests) == 3
