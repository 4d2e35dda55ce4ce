"""What attention and state layers are, by the names of `config.json`, and how many parameters they have.

Shapes of states: vLLM 0.32, `model_executor/layers/mamba/mamba_utils.py` (`gated_delta_net_state_shape`, `mamba2_state_shape`).
"""

from __future__ import annotations

from rlu_server.sizing.fields import Config, flag, number, optional, text
from rlu_server.sizing.model import Attention, Latent, Mixer, State

_STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def attention(config: Config, hidden: int, window: int | None, *, chunked: bool = False) -> Attention:
    """Attention with heads of their own keys and values."""
    heads = number(config, "num_attention_heads", least=1)
    head_dim = optional(config, "head_dim") or max(hidden // heads, 1)
    return Attention(
        heads=heads,
        kv_heads=number(config, "num_key_value_heads", default=heads, least=1),
        head_dim=head_dim,
        value_dim=optional(config, "v_head_dim") or head_dim,
        window=window,
        chunked=chunked,
    )


def latent(config: Config) -> Latent:
    """Multi-head latent attention."""
    rope = number(config, "qk_rope_head_dim", least=1)
    return Latent(
        heads=number(config, "num_attention_heads", least=1),
        rank=number(config, "kv_lora_rank", least=1),
        rope_dim=rope,
        score_dim=number(config, "qk_nope_head_dim", least=1) + rope,
        value_dim=number(config, "v_head_dim", least=1),
        index_dim=number(config, "index_head_dim", default=0),
    )


def delta_net(config: Config) -> State:
    """Gated delta net (Qwen3-Next and later)."""
    key_heads, value_heads = (
        number(config, "linear_num_key_heads", least=1),
        number(config, "linear_num_value_heads", least=1),
    )
    key, value = (
        number(config, "linear_key_head_dim", least=1),
        number(config, "linear_value_head_dim", least=1),
    )
    channels = 2 * key_heads * key + value_heads * value
    return State(
        heads=key_heads,
        convolution=channels * (number(config, "linear_conv_kernel_dim", least=1) - 1),
        recurrent=value_heads * value * key,
        recurrent_bytes=_STATE_BYTES.get(text(config, "mamba_ssm_dtype"), 2),
    )


def mamba2(config: Config, hidden: int) -> State:
    """Mamba 2 (Granite 4, Bamba)."""
    heads = number(config, "mamba_n_heads", least=1)
    inner = number(config, "mamba_expand", default=2, least=1) * hidden
    size = number(config, "mamba_d_state", least=1)
    channels = inner + 2 * number(config, "mamba_n_groups", default=1, least=1) * size
    return State(
        heads=heads,
        convolution=channels * (number(config, "mamba_d_conv", least=1) - 1),
        recurrent=inner * size,
        recurrent_bytes=_STATE_BYTES.get(text(config, "mamba_ssm_dtype"), 2),
    )


def parameters(mixer: Mixer, hidden: int, config: Config) -> int:
    """Parameters of a layer's mixer; biases and norms of single heads, under 0.1 %, are left out."""
    if isinstance(mixer, Attention):
        query = (
            mixer.heads * mixer.head_dim * (2 if flag(config, "attn_output_gate") or _gated(config) else 1)
        )
        return hidden * (
            query + mixer.kv_heads * (mixer.head_dim + mixer.value_dim) + mixer.heads * mixer.value_dim
        )
    if isinstance(mixer, Latent):
        return _latent_parameters(mixer, hidden, config)
    if "linear_num_value_heads" in config:
        value = number(config, "linear_num_value_heads") * number(config, "linear_value_head_dim")
        key = number(config, "linear_num_key_heads") * number(config, "linear_key_head_dim")
        # Queries, keys, values, the gate and the way back.
        return hidden * (2 * key + 3 * value)
    inner = number(config, "mamba_expand", default=2) * hidden
    groups = number(config, "mamba_n_groups", default=1) * number(config, "mamba_d_state")
    return hidden * (3 * inner + 2 * groups + mixer.heads)


def _gated(config: Config) -> bool:
    return text(config, "model_type") == "qwen3_next"


def _latent_parameters(mixer: Latent, hidden: int, config: Config) -> int:
    low = optional(config, "q_lora_rank")
    scores = mixer.heads * mixer.score_dim
    query = hidden * scores if low is None else low * (hidden + scores)
    down = hidden * (mixer.rank + mixer.rope_dim)
    up = mixer.rank * mixer.heads * (mixer.score_dim - mixer.rope_dim + mixer.value_dim)
    found = query + down + up + mixer.heads * mixer.value_dim * hidden
    if mixer.index_dim:
        index_heads = number(config, "index_n_heads", default=64)
        found += (low or hidden) * index_heads * mixer.index_dim + hidden * (mixer.index_dim + index_heads)
    return found
