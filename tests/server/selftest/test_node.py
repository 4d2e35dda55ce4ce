from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rlu_server import settings as configuration
from rlu_server.selftest.node import Node, NodeError

REFUSED = """
print('{"time": 1.5, "event": "measuring"}', flush=True)
print('{\\n  "code": "settings.refused",\\n  "message": "no"\\n}\\n{"no": "event"}\\n[1]\\n{"torn', flush=True)
raise SystemExit(2)
"""


def test_a_deployment_that_refuses_to_start_is_told_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "cwd").mkdir()
    given = {"state_dir": str(tmp_path / "none"), "model": {"path": str(tmp_path / "m")}}
    settings = configuration.load(None, {}, given)
    node = Node(tmp_path, settings, (sys.executable, "-c", REFUSED))
    try:
        with pytest.raises(NodeError, match=r"ended while serving was waited for.*settings\.refused"):
            node.start()
        assert [event["event"] for event in node.events()] == ["measuring"]
    finally:
        node.abandon()
