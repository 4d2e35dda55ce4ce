"""The benchmark for GPUs, as far as it goes without one: refusals, arithmetic, report, and a run before the scripted engine."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import gpu
from bench import dummy_model, hop
from bench.hop import Hop, Memory
from bench.processes import start_engine
from bench.scenarios import BOOK
from rlu_server.preflight import facts, probe_gpus

H200 = facts.Gpu(name="NVIDIA H200", memory_mib=143_771, vbios="1")
LOG = """INFO Model loading took 15.27 GiB memory and 2.150000 seconds
INFO Available KV cache memory: 109.52 GiB
"""
METRICS = """# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="49853"} 1.0
"""


def found(**about: object) -> facts.Gpus:
    return facts.Gpus(vendor="NVIDIA", **about)  # type: ignore[arg-type]


def test_a_machine_without_gpu_is_refused_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probe_gpus, "nvidia", lambda root: found())
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert gpu.main(["--python", "/nowhere/python"]) == gpu.UNABLE
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "bench-gpu: this machine cannot do it; missing:"
    assert said[1] == "  - an NVIDIA GPU with its driver"
    assert said[2] == "  - an interpreter that has vLLM (/nowhere/python: FileNotFoundError); give --python"
    assert said[3].startswith("  - 4 cores (there are 2)")


def test_what_else_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(probe_gpus, "nvidia", lambda root: found(gpus=(H200,)))
    (without_vllm,) = gpu.missing(gpu.arguments(["--python", "/bin/false"]))
    assert without_vllm == "vLLM in /bin/false: install it there, or give --python"
    # This interpreter's vLLM, if any, is the CPU build.
    (without_cuda,) = gpu.missing(gpu.arguments(["--python", sys.executable]))
    assert "vLLM's CUDA build" in without_cuda
    monkeypatch.setattr(gpu, "_cuda_build", lambda python: None)
    assert gpu.missing(gpu.arguments([])) == []
    unknown = facts.Gpu(name="NVIDIA T400", memory_mib=2000, vbios="1")
    monkeypatch.setattr(probe_gpus, "nvidia", lambda root: found(gpus=(unknown,)))
    assert gpu.missing(gpu.arguments([])) == [
        "figures of NVIDIA T400 in rlu_server/sizing/gpus.py, to hold its memory against"
    ]
    monkeypatch.setattr(probe_gpus, "nvidia", lambda root: found(problem=("nvml.absent", "install it")))
    assert gpu.missing(gpu.arguments([])) == ["the NVIDIA driver does not answer (nvml.absent): install it"]


def test_the_engine_gets_dummy_weights_and_room_for_every_connection() -> None:
    options = gpu.arguments(
        ["--connections", "8", "32", "--context", "4096", "--python", "/opt/vllm/bin/python"]
    )
    command = [str(part) for part in gpu.engine_arguments(Path("/m"), Path("/run/e.sock"), options)]
    assert command[0] == "/opt/vllm/bin/python"
    pairs = dict(itertools.pairwise(command))
    assert pairs["--model"] == "/m"
    assert pairs["--load-format"] == "dummy"
    assert pairs["--max-num-seqs"] == "32"
    assert pairs["--max-model-len"] == "4096"
    assert pairs["--uds"] == "/run/e.sock"


def test_the_fewest_connections_that_come_near_the_most() -> None:
    assert hop.saturating({64: 900.0, 128: 985.0, 256: 1000.0, 512: 990.0}) == 128
    assert hop.saturating({1: 5.0}) == 1


@pytest.mark.parametrize(
    ("relayed", "added", "met"),
    [(995.0, 0.9, True), (990.0, 0.9, True), (989.0, 0.9, False), (1000.0, 1.0, False)],
)
def test_targets(relayed: float, added: float, met: bool) -> None:
    measured = Hop(
        direct_tokens=[1000.0, 1.0, 2000.0],
        relayed_tokens=[relayed, 1.0, 9000.0],
        direct_ttft_ms=[20.0],
        relayed_ttft_ms=[20.0 + added],
    )
    assert measured.ratio == relayed / 1000
    assert measured.added_ms == pytest.approx(added)
    assert measured.met is met


def test_memory_as_vllm_tells_it() -> None:
    assert hop.measured(LOG, METRICS) == Memory(
        weights=15.27 * 2**30, cache=109.52 * 2**30, cache_tokens=49853.0 * 16
    )
    assert hop.measured("", "vllm:other 1") == Memory(weights=None, cache=None, cache_tokens=None)


def test_memory_as_sizing_tells_it() -> None:
    config = json.dumps(dummy_model.SHAPES["8b"].config()).encode()
    said = hop.predicted(config, "h200", 8192, 256)
    assert said.weights == pytest.approx(8.19e9 * 2, rel=0.02)
    assert said.cache is not None
    assert said.cache_tokens is not None
    # 36 layers of 8 heads of 128 keys and values in 16 bits.
    assert said.cache / said.cache_tokens == pytest.approx(36 * 8 * 128 * 2 * 2, rel=0.01)


def test_gpus_are_known_by_their_products_name() -> None:
    assert hop.known_gpu("NVIDIA H200") == "h200"
    assert hop.known_gpu("NVIDIA H100 80GB HBM3") == "h100"
    assert hop.known_gpu("NVIDIA T400") is None


def test_the_model_directory_is_one_that_transformers_reads(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    shape = dummy_model.SHAPES["tiny"]
    directory = dummy_model.write(shape, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    assert len(tokenizer) == shape.vocabulary
    assert len(tokenizer.encode("what is the answer?")) == 19
    assert tokenizer.decode([shape.vocabulary - 1]).strip() == f"w{shape.vocabulary - 1}"
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)
    assert text == "hello"


def test_a_run_before_the_scripted_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def scripted(options: argparse.Namespace, scratch: Path, cores: Sequence[int]) -> gpu.Running:
        (scratch / "book.json").write_text(json.dumps(BOOK))
        return gpu.Running(start_engine(scratch, scratch / "book.json", cores), "NVIDIA H200", "scripted")

    options = gpu.arguments(["--rounds", "1", "--seconds", "0.6", "--connections", "2", "4"])
    before = os.sched_getaffinity(0)
    try:
        result = gpu.run(options, scripted)
    finally:
        os.sched_setaffinity(0, before)
    assert result["connections"] in (2, 4)
    assert min(result["hop"]["direct_tokens"] + result["hop"]["relayed_tokens"]) > 0
    assert min(result["hop"]["direct_ttft_ms"] + result["hop"]["relayed_ttft_ms"]) > 0
    assert result["measured"] == {"weights": None, "cache": None, "cache_tokens": None}
    result["predicted"] = {"weights": 2.0**30, "cache": 2.0**31, "cache_tokens": 1000.0}
    result["measured"]["weights"] = 2.0**29
    told = hop.table(result)
    assert "8b with dummy weights on NVIDIA H200" in told
    assert "| weights, GiB | 1.00 | 0.50 | +100.0 % |" in told
    assert "| KV cache, tokens | 1,000 | – | – |" in told
