"""Reading `config.json`: published parameter counts, kinds of layers, quantisation, and what refuses."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.model_configs import (
    DEEPSEEK_V3,
    GEMMA3_27B,
    GPT_OSS_120B,
    LLAMA_70B,
    QWEN3_CODER_480B,
    QWEN3_NEXT_80B,
    encoded,
)
from rlu_attestation.errors import RluError
from rlu_server.sizing import weights
from rlu_server.sizing.config import read_model
from rlu_server.sizing.model import Attention, Experts, Latent, State
from rlu_server.sizing.weights import quantized


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [
        (LLAMA_70B, 70.6, 69.5),
        (DEEPSEEK_V3, 671, 37),
        (QWEN3_CODER_480B, 480, 35),
        (QWEN3_NEXT_80B, 80, 3.5),
        (GPT_OSS_120B, 116.8, 5.1),
        (GEMMA3_27B, 27.0, 27.0),
    ],
    ids=["llama-70b", "deepseek-v3", "qwen3-coder-480b", "qwen3-next-80b", "gpt-oss-120b", "gemma3-27b"],
)
def test_parameters_are_the_published_ones(config: dict[str, Any], total: float, active: float) -> None:
    model = read_model(encoded(config))
    assert model.parameters / 1e9 == pytest.approx(total, rel=0.01)
    assert model.active_parameters / 1e9 == pytest.approx(active, rel=0.15)


def kinds(config: dict[str, Any], **changes: Any) -> Counter[str]:
    return Counter(layer.mixer.name for layer in read_model(encoded(config, **changes)).layers)


def test_kinds_of_layers() -> None:
    assert kinds(LLAMA_70B) == {"full": 80}
    assert kinds(DEEPSEEK_V3) == {"latent": 61}
    assert kinds(GPT_OSS_120B) == {"sliding": 18, "full": 18}
    assert kinds(GPT_OSS_120B, layer_types=None) == {"sliding": 18, "full": 18}
    assert kinds(GEMMA3_27B) == {"sliding": 52, "full": 10}
    assert kinds(QWEN3_NEXT_80B) == {"state": 36, "full": 12}
    assert kinds(LLAMA_70B, model_type="mistral", sliding_window=4096) == {"sliding": 80}
    qwen = {"model_type": "qwen2", "sliding_window": 4096, "max_window_layers": 60}
    assert kinds(LLAMA_70B, **qwen, use_sliding_window=True) == {"full": 60, "sliding": 20}
    assert kinds(LLAMA_70B, **qwen, use_sliding_window=False) == {"full": 80}
    llama4 = {"model_type": "llama4_text", "attention_chunk_size": 8192}
    assert kinds(LLAMA_70B, **llama4) == {"chunked": 60, "full": 20}


def test_shapes() -> None:
    mixer = read_model(encoded(DEEPSEEK_V3)).layers[0].mixer
    assert mixer == Latent(heads=128, rank=512, rope_dim=64, score_dim=192, value_dim=128)
    multi_query = read_model(encoded(LLAMA_70B, num_key_value_heads=1)).layers[0].mixer
    assert multi_query == Attention(heads=64, kv_heads=1, head_dim=128, value_dim=128)
    multi_head = read_model(encoded(LLAMA_70B, num_key_value_heads=None)).layers[0].mixer
    assert isinstance(multi_head, Attention)
    assert multi_head.kv_heads == 64
    state = read_model(encoded(QWEN3_NEXT_80B)).layers[0].mixer
    assert state == State(heads=16, convolution=8192 * 3, recurrent=32 * 128 * 128, recurrent_bytes=2)


def test_layers_with_experts() -> None:
    model = read_model(encoded(DEEPSEEK_V3))
    assert [layer.experts is None for layer in model.layers[:4]] == [True, True, True, False]
    assert model.experts == Experts(count=256, active=8, width=2048)
    every_second = read_model(encoded(QWEN3_CODER_480B, decoder_sparse_step=2, mlp_only_layers=[3]))
    assert [layer.experts is not None for layer in every_second.layers[:6]] == [
        False,
        True,
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("given_config", "method", "bits", "activations"),
    [
        ({"quant_method": "fp8"}, "fp8", 8, True),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq", 4 + 20 / 128, False),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "gptq", 4, False),
        ({"quant_method": "mxfp4"}, "mxfp4", 4.25, False),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 4.5, False),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "modelopt", 8, True),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}}},
            },
            "compressed-tensors",
            8,
            True,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 4, "group_size": 32}}},
            },
            "compressed-tensors",
            4.5,
            False,
        ),
    ],
)
def test_stored_quantization(
    given_config: dict[str, Any], method: str, bits: float, activations: bool
) -> None:
    found = read_model(encoded(LLAMA_70B, quantization_config=given_config)).quantization
    assert found is not None
    assert (found.method, found.bits, found.activations) == (method, bits, activations)


def test_weights() -> None:
    plain = read_model(encoded(LLAMA_70B))
    assert weights.total(plain) == plain.parameters * 2
    eight = quantized(plain, "fp8")
    assert weights.total(eight) == plain.parameters * 2 - (plain.parameters - plain.embedding_parameters)
    # gpt-oss: attention stays in 16 bits; its files have 60.8 GiB.
    assert weights.total(read_model(encoded(GPT_OSS_120B))) / 2**30 == pytest.approx(60.8, rel=0.02)
    exact = read_model(encoded(LLAMA_70B), weight_bytes=141_107_412_992)
    assert weights.total(exact) == 141_107_412_992
    assert weights.total(quantized(exact, "fp8")) == pytest.approx(weights.total(eight), rel=0.001)


def test_what_is_stored_cannot_be_made_otherwise() -> None:
    with pytest.raises(ValueError, match="stored as fp8"):
        quantized(read_model(encoded(DEEPSEEK_V3)), "awq")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "size.config.malformed"),
        (b"[]", "size.config.malformed"),
        (b"[" * 100_000, "size.config.malformed"),
        (b"{}", "size.config.missing"),
        (encoded(LLAMA_70B, hidden_size="8192"), "size.config.value"),
        (encoded(LLAMA_70B, hidden_size=True), "size.config.value"),
        (encoded(LLAMA_70B, num_hidden_layers=0), "size.config.value"),
        (encoded(LLAMA_70B, num_hidden_layers=10**6), "size.config.value"),
        (encoded(LLAMA_70B, num_attention_heads=None), "size.config.missing"),
        (encoded(LLAMA_70B, layer_types=["full_attention"]), "size.config.value"),
        (encoded(LLAMA_70B, layer_types=["strange"] * 80), "size.model.unsupported"),
        (encoded(LLAMA_70B, model_type="t5"), "size.model.unsupported"),
        (encoded(LLAMA_70B, is_encoder_decoder=True), "size.model.unsupported"),
        (encoded(LLAMA_70B, quantization_config={"quant_method": "new"}), "size.quantization.unsupported"),
        (encoded(LLAMA_70B, quantization_config={"quant_method": "awq", "bits": 64}), "size.config.value"),
    ],
)
def test_refusals(data: bytes, code: str) -> None:
    with pytest.raises(RluError) as caught:
        read_model(data)
    assert caught.value.code == code


def test_an_unknown_type_is_noted() -> None:
    assert "not among those checked" in read_model(encoded(LLAMA_70B, model_type="new_llama")).notes[0]
    assert read_model(encoded(LLAMA_70B)).notes == ()


values = (
    st.none()
    | st.booleans()
    | st.integers(-3, 2**50)
    | st.text(max_size=9)
    | st.lists(st.integers(), max_size=3)
)


@settings(max_examples=150)
@given(
    base=st.sampled_from([LLAMA_70B, DEEPSEEK_V3, QWEN3_NEXT_80B, GPT_OSS_120B]),
    changes=st.dictionaries(
        st.sampled_from(sorted({*LLAMA_70B, *DEEPSEEK_V3, *QWEN3_NEXT_80B, *GPT_OSS_120B, "text_config"})),
        values | st.dictionaries(st.sampled_from(["quant_method", "bits", "config_groups"]), values),
        max_size=3,
    ),
)
def test_arbitrary_members_only_refuse(base: dict[str, Any], changes: dict[str, Any]) -> None:
    try:
        model = read_model(json.dumps({**base, **changes}).encode())
        weights.total(model)
    except RluError:
        pass


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_only_refuse(data: bytes) -> None:
    with pytest.raises(RluError):
        read_model(data)
