"""`rlu size` as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.model_configs import DEEPSEEK_V3, LLAMA_70B, encoded
from fakes.terminal import rlu

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_bytes(encoded(LLAMA_70B))
    return tmp_path


def test_it_fits(capsys: Capture, llama: Path) -> None:
    ran = rlu(capsys, "size", "--model", llama, "--gpu", "H100", "--count", 8)
    assert ran.code == 0
    assert "70.6 B parameters" in ran.out
    assert 'profile: "h100x8"' in ran.out
    assert "--max-model-len 131072 --tensor-parallel-size 4" in ran.out
    arguments = next(line for line in ran.out.splitlines() if "arguments: [" in line)
    assert json.loads(arguments.split(": ", 1)[1])[:2] == ["--tensor-parallel-size", "4"]


def test_it_does_not(capsys: Capture, llama: Path) -> None:
    ran = rlu(capsys, "size", "--model", llama / "config.json", "--gpu", "h100")
    assert ran.code == 41
    assert "Does not fit" in ran.out
    assert "--count 4" in ran.out
    assert "Helm values" not in ran.out


def test_for_machines(capsys: Capture, llama: Path) -> None:
    options = ("--context", 8192, "--concurrency", 4, "--kv-cache-dtype", "fp8", "--quantization", "fp8")
    ran = rlu(capsys, "size", "--model", llama, "--gpu", "h200", "--count", 8, *options, "--json")
    assert ran.code == 0
    assert ran.json["fits"] is True
    assert ran.json["layers"] == {"full": {"count": 80, "bytes_per_token": 2048, "bytes_per_sequence": 0}}
    assert ran.json["helm_values"]["engine"]["arguments"] == ran.json["engine_arguments"]
    assert ran.json["model"]["quantization"] == "fp8"


def test_files_are_exact(capsys: Capture, demo_model: Path) -> None:
    ran = rlu(capsys, "size", "--model", demo_model, "--gpu", "h100", "--json")
    estimated = ran.json["model"]["parameters"] * 2
    assert ran.json["model"]["weights_from"] == "files"
    assert ran.json["model"]["weights_bytes"] == pytest.approx(estimated, rel=0.01)


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--gpu", "v100"), 2, "size.gpu"),
        (("--gpu", "h100", "--kv-cache-dtype", "fp4"), 2, "size.kv_cache_dtype"),
        (("--gpu", "h100", "--quantization", "int3"), 2, "size.quantization"),
        (("--gpu", "h100", "--context", 1 << 20), 2, "size.context"),
        (("--gpu", "h100", "--count", 0), 2, "count"),
    ],
)
def test_usage(capsys: Capture, llama: Path, options: tuple[object, ...], code: int, word: str) -> None:
    ran = rlu(capsys, "size", "--model", llama, *options)
    assert ran.code == code
    assert word in ran.err


def test_what_is_stored_cannot_be_made_otherwise(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(encoded(DEEPSEEK_V3))
    ran = rlu(capsys, "size", "--model", tmp_path, "--gpu", "h200", "--quantization", "awq")
    assert ran.code == 2
    assert "stored as fp8" in ran.err


def test_a_checkpoint_that_vllm_cannot_make_is_noted(capsys: Capture, llama: Path) -> None:
    ran = rlu(capsys, "size", "--model", llama, "--gpu", "h200", "--quantization", "awq", "--json")
    assert "vLLM cannot make awq" in ran.json["model"]["notes"][-1]


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [
        (b"{", 30, "size.config.malformed"),
        (encoded(LLAMA_70B, model_type="t5"), 20, "size.model.unsupported"),
    ],
)
def test_files(capsys: Capture, tmp_path: Path, data: bytes, code: int, word: str) -> None:
    (tmp_path / "config.json").write_bytes(data)
    ran = rlu(capsys, "size", "--model", tmp_path, "--gpu", "h100", "--json")
    assert (ran.code, ran.json["code"]) == (code, word)


def test_no_file(capsys: Capture, tmp_path: Path) -> None:
    ran = rlu(capsys, "size", "--model", tmp_path, "--gpu", "h100")
    assert ran.code == 2
    assert "size.model.file" in ran.err
