"""What runs inside any image: one file, Python 3.9, standard library only."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import rlu_server

SERVER = Path(rlu_server.__file__).parent
INSIDE = [
    SERVER / "lock" / "rlu_lock.py",
    *sorted((SERVER / "engine" / "inside").glob("*.py")),
    *sorted((SERVER / "selftest" / "inside").glob("*.py")),
]
SINCE_310 = {
    "bit_count",
    "pairwise",
    "anext",
    "aiter",
    "EncodingWarning",
    "ExceptionGroup",
    "Self",
}


@pytest.mark.parametrize("file", INSIDE, ids=lambda file: file.name)
def test_any_image_can_run_it(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module or "")
        elif isinstance(node, ast.Call):
            named = {keyword.arg for keyword in node.keywords}
            assert not (isinstance(node.func, ast.Name) and node.func.id == "zip" and "strict" in named)
        elif isinstance(node, (ast.Attribute, ast.Name)):
            assert (node.attr if isinstance(node, ast.Attribute) else node.id) not in SINCE_310
    # One of vLLM's own commands under another name runs nowhere but in its image.
    own = {"vllm"} if file.name == "rlu_engine_headless.py" else set()
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names | {"__future__"} | own
    # `X | None` in an annotation is a string with this, and an error of 3.9 without it.
    assert "from __future__ import annotations" in file.read_text()
