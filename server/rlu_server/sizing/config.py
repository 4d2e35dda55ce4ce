"""From a model's `config.json` to what it needs: the names that transformers uses for dense, MoE, latent and hybrid decoders.

What the file does not say is not guessed silently: an unknown `model_type` is read by the usual names and noted. Vision and audio towers
are not counted (their files are, when they are there), nor are layers for multi-token prediction, which vLLM loads only to speculate.
"""

from __future__ import annotations

from rlu_attestation.errors import Malformed, Unsupported
from rlu_server.sizing import fields, mixers
from rlu_server.sizing.fields import Config, flag, number, optional, section, text, texts
from rlu_server.sizing.model import Experts, Layer, Mixer, Model
from rlu_server.sizing.quantization import stored_quantization

MAX_LAYERS = 1024
ELEMENT_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
KNOWN = frozenset(
    [
        "llama",
        "llama4_text",
        "mistral",
        "ministral",
        "mixtral",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "qwen3_next",
        "qwen3_5_text",
        "qwen3_5_moe_text",
        "gemma2",
        "gemma3_text",
        "gpt_oss",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "kimi_k2",
        "glm4",
        "glm4_moe",
        "phi3",
        "minimax_m2",
        "granite",
        "granitemoe",
        "olmo2",
        "exaone4",
    ]
)
"""Values of `model_type` whose names were checked; others are read alike, with a note."""
UNSUPPORTED = frozenset(["gpt2", "opt", "bloom", "falcon", "t5", "bert", "roberta", "whisper", "rwkv", "mpt"])
_UNGATED = frozenset({"relu2", "relu", "gelu_new"})


def read_model(data: bytes, weight_bytes: int | None = None) -> Model:
    """The model that a `config.json` describes.

    Args:
        weight_bytes: size of the weights, when their files were there.

    Raises:
        Malformed: `size.config.malformed`, `.missing`, `.value`.
        Unsupported: `size.model.unsupported`, `size.quantization.unsupported`.
    """
    whole = fields.parse(data)
    inner = section(whole, "text_config", "llm_config", "language_config")
    config = whole if inner is None else inner
    kind = text(config, "model_type") or text(whole, "model_type")
    if kind in UNSUPPORTED or flag(config, "is_encoder_decoder"):
        raise Unsupported(
            "size.model.unsupported",
            f"models of type {kind!r} are not sized: only decoders with the names of Llama and its successors are",
        )
    notes = []
    if kind not in KNOWN:
        notes.append(
            f"model type {kind!r} is not among those checked: read by the usual names, compare with vLLM's log"
        )
    if inner is not None and weight_bytes is None:
        notes.append("parts other than the language model (vision, audio) are not counted")
    if number(config, "num_nextn_predict_layers", default=0) and weight_bytes is not None:
        notes.append(
            "the files hold layers for multi-token prediction, which are loaded only to speculate: weights are an upper bound"
        )
    hidden = number(config, "hidden_size", least=1)
    kinds = _layer_kinds(config, kind, hidden)
    architectures = texts(whole, "architectures")
    return Model(
        architecture=architectures[0] if architectures else kind or "unknown",
        hidden=hidden,
        vocabulary=number(config, "vocab_size", least=1),
        tied=flag(config, "tie_word_embeddings", flag(whole, "tie_word_embeddings")),
        max_context=number(config, "max_position_embeddings", "max_sequence_length", default=0),
        layers=tuple(_layer(config, kind, hidden, index, mixer) for index, mixer in enumerate(kinds)),
        element_bytes=_element_bytes(config, whole),
        quantization=stored_quantization(whole, config),
        weight_bytes=weight_bytes,
        notes=tuple(notes),
    )


def _element_bytes(config: Config, whole: Config) -> int:
    name = next((n for c in (config, whole) for k in ("dtype", "torch_dtype") if (n := text(c, k))), "")
    # vLLM serves float32 checkpoints in 16 bits by default; quantised ones name the type of what is not.
    return min(ELEMENT_BYTES.get(name, 2), 2)


def _layer_kinds(config: Config, kind: str, hidden: int) -> tuple[Mixer, ...]:
    """The mixer of each layer."""
    count = number(config, "num_hidden_layers", least=1)
    if count > MAX_LAYERS:
        raise Malformed("size.config.value", f"config.json: more than {MAX_LAYERS} layers")
    if "kv_lora_rank" in config and config["kv_lora_rank"] is not None:
        return (mixers.latent(config),) * count
    names = texts(config, "layer_types") or _implied(config, kind, count)
    if len(names) != count:
        raise Malformed("size.config.value", f"config.json: layer_types names {len(names)} layers of {count}")
    made = {name: _mixer(config, name, hidden) for name in sorted(set(names))}
    return tuple(made[name] for name in names)


def _implied(config: Config, kind: str, count: int) -> tuple[str, ...]:
    """`layer_types` where the file leaves them to its family's rule."""
    every = optional(config, "full_attention_interval")
    if every is not None:
        return tuple("full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(count))
    every = optional(config, "sliding_window_pattern", "_sliding_window_pattern")
    if every is None:
        every = {"gemma2": 2, "gpt_oss": 2, "gemma3_text": 6}.get(kind)
    if optional(config, "sliding_window") is not None and every is not None:
        return tuple("full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(count))
    if optional(config, "attention_chunk_size") is not None and kind == "llama4_text":
        return tuple("full_attention" if (i + 1) % 4 == 0 else "chunked_attention" for i in range(count))
    slides = optional(config, "sliding_window") is not None and flag(config, "use_sliding_window", True)
    first = number(config, "max_window_layers", default=0) if slides and kind.startswith("qwen") else 0
    return tuple("sliding_attention" if slides and i >= first else "full_attention" for i in range(count))


def _mixer(config: Config, name: str, hidden: int) -> Mixer:
    if name == "full_attention":
        return mixers.attention(config, hidden, None)
    if name == "sliding_attention":
        return mixers.attention(config, hidden, number(config, "sliding_window", least=1))
    if name == "chunked_attention":
        return mixers.attention(config, hidden, number(config, "attention_chunk_size", least=1), chunked=True)
    if name == "linear_attention" and "linear_num_value_heads" in config:
        return mixers.delta_net(config)
    if name == "mamba" and "mamba_n_heads" in config:
        return mixers.mamba2(config, hidden)
    raise Unsupported(
        "size.model.unsupported",
        f"layers of type {name!r} are not sized; ask vLLM by a start with this model",
    )


def _layer(config: Config, kind: str, hidden: int, index: int, mixer: Mixer) -> Layer:
    per_width = hidden * (2 if text(config, "hidden_act") in _UNGATED else 3)
    experts = _experts(config, index)
    if experts is None:
        width = number(
            config,
            *(("intermediate_size_mlp",) if kind == "llama4_text" else ()),
            "intermediate_size",
            least=1,
        )
        routed = router = 0
    else:
        width = _shared_width(config, kind, experts)
        routed, router = experts.count * experts.width * per_width, experts.count * hidden
    return Layer(
        mixer=mixer,
        width=width,
        mixer_parameters=mixers.parameters(mixer, hidden, config),
        dense_parameters=width * per_width + router + 2 * hidden,
        experts=experts,
        expert_parameters=routed,
    )


def _experts(config: Config, index: int) -> Experts | None:
    """The experts of one layer; None where it is dense."""
    count = optional(config, "n_routed_experts", "num_experts", "num_local_experts")
    if count is None or index < number(config, "first_k_dense_replace", default=0):
        return None
    step = number(
        config, "decoder_sparse_step", "moe_layer_freq", "interleave_moe_layer_step", default=1, least=1
    )
    counts_from_one = "decoder_sparse_step" in config or "interleave_moe_layer_step" in config
    if (index + counts_from_one) % step or index in fields.numbers(config, "mlp_only_layers"):
        return None
    active = number(config, "num_experts_per_tok", "num_experts_per_token", "top_k_experts", least=1)
    width = number(config, "moe_intermediate_size", "intermediate_size", least=1)
    return Experts(count=count, active=min(active, count), width=width)


def _shared_width(config: Config, kind: str, experts: Experts) -> int:
    if kind == "llama4_text":
        return experts.width
    given = optional(config, "shared_expert_intermediate_size", "shared_intermediate_size")
    return given or number(config, "n_shared_experts", "num_shared_experts", default=0) * experts.width
