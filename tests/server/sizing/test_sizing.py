"""Layouts, cache, ceilings, advice and the answer, by arithmetic that can be followed by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.model_configs import (
    DEEPSEEK_V3,
    GEMMA3_27B,
    GPT_OSS_120B,
    LLAMA_70B,
    QWEN3_CODER_480B,
    QWEN3_NEXT_80B,
    encoded,
)
from rlu_server.engine import arguments
from rlu_server.sizing import (
    GPUS,
    Wish,
    engine_arguments,
    helm_values,
    lines,
    quantized,
    read_model,
    size,
    to_json,
)
from rlu_server.sizing.advice import changes
from rlu_server.sizing.cache import CacheSettings, sequence_bytes, state_bytes, token_bytes
from rlu_server.sizing.layout import Layout, fits, layouts
from rlu_server.sizing.roofline import ceiling

LLAMA = read_model(encoded(LLAMA_70B))
DEEPSEEK = read_model(encoded(DEEPSEEK_V3))
CODER = read_model(encoded(QWEN3_CODER_480B))
NEXT = read_model(encoded(QWEN3_NEXT_80B))
OSS = read_model(encoded(GPT_OSS_120B))


def wish(gpu: str = "h100", count: int = 8, context: int = 8192, **more: Any) -> Wish:
    return Wish(gpu=GPUS[gpu], count=count, context=context, **{"concurrency": None, **more})


def settings(tensor: int = 1, element_bytes: int = 2, **more: Any) -> CacheSettings:
    return CacheSettings(element_bytes=element_bytes, tensor=tensor, **{"batched_tokens": 8192, **more})


# --- cache --------------------------------------------------------------------------------------------------------------


def test_bytes_of_a_token() -> None:
    full = LLAMA.layers[0].mixer
    assert token_bytes(full, settings()) == 8 * (128 + 128) * 2
    assert token_bytes(full, settings(element_bytes=1)) == 8 * (128 + 128)
    assert token_bytes(full, settings(tensor=8)) == (128 + 128) * 2
    assert token_bytes(full, settings(tensor=16)) == (128 + 128) * 2  # two ranks hold the same head
    latent = DEEPSEEK.layers[0].mixer
    assert token_bytes(latent, settings()) == token_bytes(latent, settings(tensor=8)) == 1152
    sparse = read_model(encoded(DEEPSEEK_V3, index_head_dim=128, index_n_heads=64)).layers[0].mixer
    assert token_bytes(sparse, settings(element_bytes=1)) == 656 + 132
    state = NEXT.layers[0].mixer
    assert token_bytes(state, settings()) == 0
    assert state_bytes(state, 2, settings(tensor=2)) == (8192 * 3 * 2 + 32 * 128 * 128 * 2) // 2


def test_a_sequence_of_one_kind() -> None:
    assert sequence_bytes(LLAMA, 8192, settings()) == 8192 * 80 * 4096
    assert sequence_bytes(LLAMA, 8193, settings()) == (8192 + 16) * 80 * 4096
    assert sequence_bytes(LLAMA, 8192, settings(), stages=4) == 8192 * 20 * 4096


def test_a_window_bounds_a_sequence() -> None:
    mistral = read_model(encoded(LLAMA_70B, model_type="mistral", sliding_window=4096))
    blocks = -(-(4095 + 2 * 8192) // 16) + 1
    assert sequence_bytes(mistral, 131072, settings()) == blocks * 16 * 80 * 4096
    assert sequence_bytes(mistral, 100, settings()) == (7 + 1) * 16 * 80 * 4096


def test_kinds_share_a_pool_in_groups_of_one_size() -> None:
    # 18 and 18 layers: two groups of 18.
    sliding = -(-(127 + 2 * 8192) // 16) + 1
    assert sequence_bytes(OSS, 131072, settings()) == (8192 + sliding) * 18 * 16 * 2048
    # 10 full and 52 sliding: groups of 10, the sixth sliding one padded.
    gemma = read_model(encoded(GEMMA3_27B))
    sliding = -(-(1023 + 2 * 8192) // 16) + 1
    assert sequence_bytes(gemma, 131072, settings()) == (8192 + 6 * sliding) * 10 * 16 * 8192


def test_nearly_equal_kinds_are_padded_to_the_larger() -> None:
    layers = ["sliding_attention"] * 13 + ["full_attention"] * 12
    model = read_model(encoded(GPT_OSS_120B, num_hidden_layers=25, layer_types=layers))
    sliding = -(-(127 + 2 * 8192) // 16) + 1
    assert sequence_bytes(model, 131072, settings()) == (8192 + sliding) * 13 * 16 * 2048


def test_a_hybrid_keeps_states() -> None:
    state = 8192 * 3 * 2 + 32 * 128 * 128 * 2
    assert sequence_bytes(NEXT, 16000, settings()) == 36 * state + 12 * 16000 * 2 * 512 * 2


# --- layouts ------------------------------------------------------------------------------------------------------------


def shapes(model: Any, **more: Any) -> set[tuple[int, int, int]]:
    return {(each.tensor, each.pipeline, each.data) for each in layouts(model, wish(**more))}


def test_heads_must_divide() -> None:
    assert shapes(LLAMA, count=8) >= {(8, 1, 1), (4, 2, 1), (4, 1, 2), (1, 8, 1), (1, 1, 8)}
    odd = read_model(encoded(LLAMA_70B, num_attention_heads=40, num_key_value_heads=5, head_dim=128))
    assert {tensor for tensor, _, _ in shapes(odd)} == {
        1
    }  # 2 divides 40 heads, but neither 5 nor is divided by it
    assert {tensor for tensor, _, _ in shapes(odd, count=5)} == {1}  # 28672 is no multiple of 5
    assert max(tensor for tensor, _, _ in shapes(LLAMA, count=16)) == 8  # a node has eight


def test_shards_hold_whole_blocks_of_scales() -> None:
    block = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    coder = read_model(encoded(QWEN3_CODER_480B, quantization_config=block))
    # 2560 over 8 is 320, not a multiple of 128: only expert parallelism spreads these experts over eight.
    assert Layout(tensor=8, pipeline=1, data=1, expert=True) in set(layouts(coder, wish(count=8)))
    assert Layout(tensor=4, pipeline=2, data=1, expert=False) in set(layouts(coder, wish(count=8)))
    assert Layout(tensor=8, pipeline=1, data=1, expert=False) in set(layouts(CODER, wish(count=8)))


def test_latent_attention_is_best_served_by_data_parallel_engines() -> None:
    best = fits(DEEPSEEK, wish("h200", context=32768))[0]
    assert best.layout == Layout(tensor=1, pipeline=1, data=8, expert=True)
    eighth = next(each for each in fits(DEEPSEEK, wish("h200", context=32768)) if each.layout.tensor == 8)
    assert best.concurrency > 2 * eighth.concurrency


def test_no_more_splitting_than_needed() -> None:
    small = read_model(
        encoded(
            LLAMA_70B, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, intermediate_size=14336
        )
    )
    assert fits(small, wish())[0].layout == Layout(tensor=1, pipeline=1, data=8, expert=False)
    assert fits(LLAMA, wish())[0].layout.tensor == 4
    assert fits(LLAMA, wish())[0].layout.pipeline == 1


def test_the_parts_of_memory_add_up() -> None:
    for each in fits(LLAMA, wish()):
        parts = each.weights + each.activations + each.fixed + each.reserve + each.cache
        assert parts == pytest.approx(GPUS["h100"].memory * 0.92, abs=8)
        assert each.concurrency == pytest.approx(max(each.cache, 0) / each.sequence * each.layout.data)


# --- advice -------------------------------------------------------------------------------------------------------------


def test_every_change_suffices_and_smaller_ones_come_first() -> None:
    found = [change.option for change in changes(LLAMA, wish(count=2, context=131072, concurrency=1))]
    assert found == ["--context 4096", "--quantization fp8", "--count 4", "--gpu h200"] or found[-2:] == [
        "--count 4",
        "--gpu h200",
    ]
    assert size(LLAMA, wish(count=4, context=131072, concurrency=1), "h100").serves
    assert size(LLAMA, wish("h200", count=2, context=131072, concurrency=1), "h200").serves


def test_the_context_advised_is_the_longest() -> None:
    asked = wish("h200", context=131072, concurrency=400)
    context = next(
        int(change.option.split()[1])
        for change in changes(LLAMA, asked)
        if change.option.startswith("--context")
    )
    assert size(LLAMA, replace(asked, context=context), "h200").serves
    assert not size(LLAMA, replace(asked, context=context + 1024), "h200").serves


def test_the_concurrency_advised_is_the_most() -> None:
    asked = wish("h200", context=131072, concurrency=400)
    fewer = next(
        int(change.option.split()[1])
        for change in changes(LLAMA, asked)
        if change.option.startswith("--concurrency")
    )
    assert size(LLAMA, replace(asked, concurrency=fewer), "h200").serves
    assert not size(LLAMA, replace(asked, concurrency=fewer + 1), "h200").serves


def test_a_cache_in_8_bits_is_advised_where_it_suffices() -> None:
    most = int(max(each.concurrency for each in fits(LLAMA, wish("h200", context=131072, concurrency=8))))
    asked = wish("h200", context=131072, concurrency=most + 5)
    assert changes(LLAMA, asked)[0].option == "--kv-cache-dtype fp8"
    assert "--kv-cache-dtype" not in str(changes(LLAMA, replace(asked, gpu=GPUS["a100"])))


def test_weights_that_do_not_fit() -> None:
    found = size(DEEPSEEK, wish("h100", context=8192), "h100")
    assert "before any KV cache" in found.missing
    assert [change.option for change in found.changes] == ["--count 16", "--gpu h200"]
    assert found.ceiling is None
    assert engine_arguments(found) == []


# --- ceilings -----------------------------------------------------------------------------------------------------------


def test_decoding_alone_reads_all_weights_for_a_token() -> None:
    layout = Layout(tensor=8, pipeline=1, data=1, expert=False)
    top = ceiling(LLAMA, wish(context=1024), layout, 1)
    read = LLAMA.active_parameters * 2 + 80 * 4096 * 1024
    assert top.alone == pytest.approx(8 * GPUS["h100"].bandwidth / read, rel=0.001)
    assert top.bound == "memory"


def test_many_sequences_share_the_reading_until_computing_bounds() -> None:
    layout = Layout(tensor=8, pipeline=1, data=1, expert=False)
    few, many, most = (ceiling(LLAMA, wish(context=256), layout, count) for count in (1, 64, 8192))
    assert few.decode < many.decode < most.decode
    assert many.decode > 40 * few.decode
    assert most.bound == "compute"


def test_prefill_computes_and_8_bits_double_it() -> None:
    layout = Layout(tensor=8, pipeline=1, data=1, expert=False)
    plain = ceiling(LLAMA, wish(context=16), layout, 1)
    body = LLAMA.active_parameters - LLAMA.hidden * LLAMA.vocabulary
    assert plain.prefill == pytest.approx(8 * GPUS["h100"].bf16 / (2 * body), rel=0.01)
    assert plain.prompt_seconds == pytest.approx(16 / plain.prefill, rel=0.001)
    eight = ceiling(quantized(LLAMA, "fp8"), wish(context=16), layout, 1)
    assert eight.prefill == pytest.approx(plain.prefill * 1979 / 989, rel=0.001)
    older = ceiling(quantized(LLAMA, "fp8"), wish("a100", context=16), layout, 1)
    assert older.prefill == pytest.approx(8 * GPUS["a100"].bf16 / (2 * body), rel=0.01)


def test_few_tokens_hit_few_experts() -> None:
    layout = Layout(tensor=8, pipeline=1, data=1, expert=True)
    one = ceiling(CODER, wish("h200", context=16), layout, 1)
    assert one.alone == pytest.approx(8 * GPUS["h200"].bandwidth / (CODER.active_parameters * 2), rel=0.01)


# --- the answer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [LLAMA, DEEPSEEK, CODER, NEXT, OSS], ids=lambda model: model.architecture)
@pytest.mark.parametrize("gpu", list(GPUS))
def test_the_lock_accepts_every_argument(model: Any, gpu: str) -> None:
    found = size(quantized(model, None), wish(gpu, count=8, cache_bytes=1), gpu)
    assert arguments.check(engine_arguments(found)) == engine_arguments(found)
    assert to_json(found)["fits"] == found.serves
    assert all(line.isprintable() for line in lines(found))


def test_values_of_the_chart() -> None:
    found = size(LLAMA, wish(concurrency=4), "h100")
    assert helm_values(found) == {
        "hardware": {
            "profile": "h100x8",
            "gpus": {"vendor": "nvidia", "resource": "nvidia.com/gpu", "count": 8},
        },
        "engine": {"maxModelLen": 8192, "arguments": engine_arguments(found)},
    }
    assert "--tensor-parallel-size" in engine_arguments(found)
    assert GPUS["mi300x"].profile(8) == "mi300x8"
    assert GPUS["mi300x"].profile(4) is None
    assert GPUS["a100"].profile(8) is None
    assert helm_values(size(DEEPSEEK, wish("h100", count=16), "h100")) == {}  # two nodes


def test_eight_bits_are_asked_of_vllm_only_where_it_makes_them() -> None:
    made = engine_arguments(size(quantized(LLAMA, "fp8"), wish(), "h100"))
    assert made[-2:] == ["--quantization", "fp8"]
    assert "--quantization" not in engine_arguments(size(DEEPSEEK, wish("h200"), "h200"))
    assert "--quantization" not in engine_arguments(size(quantized(LLAMA, "awq"), wish(), "h100"))


def test_values_are_the_charts() -> None:
    schema = json.loads((Path(__file__).parents[3] / "helm/rlu/values.schema.json").read_text("utf-8"))
    for gpu, count in (("h200", 8), ("mi300x", 8), ("l40s", 4)):
        check(helm_values(size(OSS, wish(gpu, count=count), gpu)), schema)


def check(value: Any, schema: dict[str, Any]) -> None:
    """The parts of JSON Schema that the chart uses for these values."""
    if "enum" in schema:
        assert value in schema["enum"]
    kind = {dict: "object", list: "array", str: "string", int: "integer"}[type(value)]
    assert schema["type"] == kind
    for name, inner in value.items() if isinstance(value, dict) else ():
        check(inner, schema["properties"][name])
    for inner in value if isinstance(value, list) else ():
        check(inner, schema["items"])
