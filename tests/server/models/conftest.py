"""A small model that every test may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.safetensors_files import safetensors


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "sub").mkdir(parents=True)
    (directory / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"], "rope": {"theta": 1}}')
    tensors = {"a.weight": ("BF16", [2, 3], bytes(12)), "b.weight": ("F32", [], bytes(4))}
    (directory / "model.safetensors").write_bytes(safetensors(tensors, format="pt"))
    (directory / "sub" / ".hidden").write_text("x")
    (directory / "two\nlines é.txt").write_text("y")
    (directory / "LICENSE").write_text("do as you please")
    return directory
