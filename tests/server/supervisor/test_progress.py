from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from rlu_server.supervisor.progress import Steps

TOLD = """
import os, sys
from rich.console import Console
from rlu_server.supervisor.progress import JsonLines, Steps
shown = {shown}
for _ in range(2000):
    shown.event("engine.ready", {{"seconds": 1}})
os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 1)
for _ in range(2):
    shown.event("gateway.ready", {{"seconds": 2}})
"""


@pytest.mark.parametrize("shown", ["JsonLines()", "Steps(Console())"])
def test_a_full_disk_behind_standard_output_stops_nothing(shown: str, tmp_path: Path) -> None:
    """It is told again what happens when there is room again."""
    out = tmp_path / "out"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", TOLD.format(shown=shown), str(out)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    last = out.read_text().splitlines()[-1]
    if shown == "JsonLines()":
        assert json.loads(last)["event"] == "gateway.ready"
    else:
        assert last.endswith("gateway listening")


def test_an_operator_is_told_where_the_metrics_are() -> None:
    stream = io.StringIO()
    Steps(Console(file=stream, width=200)).event("metrics_listening", {"at": "127.0.0.1:9464"})
    assert stream.getvalue().rstrip().endswith("metrics for whoever can reach them: 127.0.0.1:9464")
