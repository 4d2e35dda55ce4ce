"""The engine's output becomes names and counts, whatever it is."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.engine import launch


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, launch.INSIDE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


filters, log = load("rlu_output_filter"), load("rlu_engine_log")


@pytest.mark.parametrize(
    ("line", "events"),
    [
        (b"rlu-log INFO vllm.model_executor.model_loader.default_loader x.py:1 -", ["loading"]),
        (b"rlu-log INFO vllm.v1.worker.cpu_worker x.py:1 -", ["preparing"]),
        (b"rlu-log WARNING vllm.v1.worker.cpu_worker x.py:1 -", ["warning"]),
        (b"rlu-log ERROR vllm.entrypoints.anthropic x.py:1 ValueError", ["error", "exception"]),
        (
            b"rlu-log ERROR vllm.v1.engine.core x.py:1 OutOfMemoryError",
            ["error", "exception", "out-of-memory"],
        ),
        (b"rlu-log ERROR vllm.v1.engine x.py:1 EngineDeadError", ["error", "exception", "crashed"]),
        (b"rlu-log INFO vllm.config x.py:1 -", ["log"]),
        (b"torch.OutOfMemoryError: CUDA out of memory. Tried", ["exception", "out-of-memory"]),
        (b"MemoryError", ["exception", "out-of-memory"]),
        (b"(EngineCore pid=1) ValueError: the prompt was SECRET", ["exception"]),
        (b"SECRET", ["other-output"]),
        (b"x" * 70000, ["overlong-line"]),
        (b"rlu-log INFO SECRET", ["other-output"]),
        (b"\xff\xfe\x00", ["other-output"]),
    ],
)
def test_classify(line: bytes, events: list[str]) -> None:
    assert filters.classify(line) == events


@given(st.binary(max_size=2000))
def test_only_names_and_counts_come_out(data: bytes) -> None:
    lines, tally = filters.Lines(), filters.Tally()
    for line in [*lines.feed(data), *lines.end()]:
        tally.add(line)
    for told in tally.news(first_only=False):
        document = json.loads(told)
        assert set(document) == {"event", "count"}
        assert document["event"] in filters.EVENTS
        assert type(document["count"]) is int


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_splitting_does_not_depend_on_chunks(chunks: list[bytes]) -> None:
    whole, parts = filters.Lines(), filters.Lines()
    together = [*whole.feed(b"".join(chunks)), *whole.end()]
    apart = [line for chunk in chunks for line in parts.feed(chunk)] + parts.end()
    assert together == apart


def test_overlong_line_is_one_line_and_kept_nowhere() -> None:
    lines = filters.Lines()
    for _ in range(100):
        assert lines.feed(b"A" * 10000) == []
        assert len(lines._rest) <= filters.MAX_LINE + 10000
    found = lines.feed(b"end\nnext\n")
    assert [filters.classify(line) for line in found] == [["overlong-line"], ["other-output"]]


def run(script: str, first: str | None = None) -> list[dict[str, object]]:
    """The filter as a process, fed by a shell script. With `first`, its text pipe is held open until it has told that, and only then does
    what the script reads have an end.
    """
    starting, hold = os.pipe()
    source, sink = os.pipe()
    arguments = [] if first is None else [str(starting)]
    command = [sys.executable, "-I", str(launch.INSIDE / "rlu_output_filter.py"), *arguments]
    process = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, pass_fds=(starting,))
    os.close(source)
    os.close(starting)
    feeder = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=sink)
    os.close(sink)
    assert process.stdout is not None
    assert feeder.stdin is not None
    told: list[dict[str, object]] = []
    while first is not None and {"text": first} not in told:
        told.append(json.loads(process.stdout.readline()))
    os.close(hold)
    feeder.stdin.close()
    told += map(json.loads, process.stdout.read().splitlines())
    process.stdout.close()
    assert process.wait(60) == 0
    assert feeder.wait(60) == 0
    return told


def test_no_text_without_the_starting_pipe() -> None:
    told = run("echo SECRET; echo SECRET")
    assert [t for t in told if "text" in t] == []
    assert told[-1] == {"event": "other-output", "count": 2}


def test_text_ends_with_the_start() -> None:
    told = run("echo why it fails; read unused; echo SECRET", "why it fails")
    assert {"text": "why it fails"} in told
    assert "SECRET" not in json.dumps(told)
    assert told[-1] == {"event": "other-output", "count": 2}


def record(message: str, exception: BaseException | None = None) -> logging.LogRecord:
    info = None if exception is None else (type(exception), exception, None)
    return logging.LogRecord("vllm.x", logging.ERROR, "/a/file.py", 7, message, (), info)


def test_text_that_may_be_a_clients_is_withheld_however_slow_the_filter_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The start ends, and a client is served, between the filter's look and its reading."""
    (source, engine), (starting, hold), (told, sink) = os.pipe(), os.pipe(), os.pipe()
    read, slept = os.read, []

    def slowly(handle: int, most: int) -> bytes:
        if handle == source and not slept:
            slept.append(True)
            os.close(hold)
            os.write(engine, b"SECRET\n")
            os.close(engine)
        return read(handle, most)

    os.write(engine, b"loading\n")
    monkeypatch.setattr(filters.os, "read", slowly)
    filters.run(source, sink, starting)
    monkeypatch.undo()
    assert b"SECRET" not in os.read(told, 1 << 16)
    for handle in (source, starting, told, sink):
        os.close(handle)


def test_formatter_tells_the_place_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = tmp_path / "engine.sock"
    monkeypatch.setenv("RLU_ENGINE_SERVING", str(serving))
    formatter = log.PlaceOnly()
    assert "SECRET" in formatter.format(record("SECRET"))  # nobody can reach the engine yet
    serving.touch()
    assert formatter.format(record("SECRET")) == "rlu-log ERROR vllm.x file.py:7 -"
    assert formatter.format(record("m", ValueError("SECRET"))) == "rlu-log ERROR vllm.x file.py:7 ValueError"
    monkeypatch.delenv("RLU_ENGINE_SERVING")
    assert formatter.format(record("SECRET")) == "rlu-log ERROR vllm.x file.py:7 -"


def test_a_class_named_by_content_is_not_shown() -> None:
    strange = type("x y\nSECRET", (Exception,), {})
    assert log.PlaceOnly().format(record("m", strange())).endswith(" -")


def test_logging_configuration_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As vLLM loads it, in a process of its own: no message of any logger gets out."""
    code = (
        "import json, logging, logging.config, sys\n"
        f"sys.path.insert(0, {str(launch.INSIDE)!r})\n"
        f"logging.config.dictConfig(json.load(open({str(launch.INSIDE / 'logging.json')!r})))\n"
        "for name in ('vllm.engine', 'uvicorn.error', 'uvicorn.access', 'torch', 'other'):\n"
        "    logging.getLogger(name).error('SECRET')\n"
        "    try: raise ValueError('SECRET')\n"
        "    except ValueError: logging.getLogger(name).exception('SECRET')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "SECRET" not in done.stdout + done.stderr
    assert "rlu-log ERROR vllm.engine" in done.stdout
    assert "uvicorn.access" not in done.stdout
