"""The cache as reckoned here and as vLLM's own classes reckon it, for latent, sliding, full and mixed layers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from absent_inputs import absent
from fakes.model_configs import DEEPSEEK_V3, GEMMA3_27B, LLAMA_70B
from rlu_server.sizing.cache import CacheSettings, sequence_bytes, token_bytes
from rlu_server.sizing.config import read_model

PROGRAM = Path(__file__).with_name("vllm_accounting.py")
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
DEEPSEEK = (
    DEEPSEEK_V3
    | ROPE
    | {
        "num_hidden_layers": 3,
        "n_group": 8,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "routed_scaling_factor": 2.5,
        "norm_topk_prob": True,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "num_nextn_predict_layers": 0,
    }
)
LLAMA = LLAMA_70B | ROPE | {"num_hidden_layers": 4, "hidden_act": "silu", "rms_norm_eps": 1e-6}
GEMMA = GEMMA3_27B["text_config"] | {
    "architectures": ["Gemma3ForCausalLM"],
    "num_hidden_layers": 13,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 128,
    "torch_dtype": "bfloat16",
    "rms_norm_eps": 1e-6,
}


@pytest.fixture(scope="module")
def accounts(
    demo_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[bytes, dict[str, Any]]]:
    """`config.json` of each model, and vLLM's account of it."""
    if importlib.util.find_spec("vllm") is None:
        absent("engine", "vLLM is not installed")
    made = [demo_model]
    # The process groups are made for the first model, and have one for experts only if it has any.
    for name, config in (("deepseek", DEEPSEEK), ("llama", LLAMA), ("gemma", GEMMA)):
        directory = tmp_path_factory.mktemp(name)
        config = {key: value for key, value in config.items() if key != "quantization_config"}
        (directory / "config.json").write_text(json.dumps(config))
        made.insert(1 if name != "deepseek" else 0, directory)
    run = subprocess.run(
        [sys.executable, PROGRAM, *made], capture_output=True, text=True, timeout=240, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    answers = json.loads(run.stdout.splitlines()[-1])
    return [
        ((place / "config.json").read_bytes(), answer) for place, answer in zip(made, answers, strict=True)
    ]


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_pages_and_sequences_are_vllms(accounts: list[tuple[bytes, dict[str, Any]]]) -> None:
    names = set()
    for config, theirs in accounts:
        model = read_model(config)
        # What is in flight depends on the executor; vLLM says which of its steps overlap.
        settings = CacheSettings(
            element_bytes=2,
            tensor=1,
            batched_tokens=theirs["batched_tokens"],
            block=theirs["block"],
            steps=theirs["in_flight"] // theirs["batched_tokens"],
        )
        ours = sorted(token_bytes(layer.mixer, settings) * settings.block for layer in model.layers)
        assert ours == sorted(size for _, _, size in theirs["pages"])
        assert sequence_bytes(model, theirs["context"], settings) == theirs["sequence"]
        names |= {name for name, _, _ in theirs["pages"]}
    assert names == {"MLAAttentionSpec", "FullAttentionSpec", "SlidingWindowSpec"}
