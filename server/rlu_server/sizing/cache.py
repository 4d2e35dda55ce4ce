"""The KV cache as vLLM 0.32 keeps it: bytes of a block by kind of layer, blocks of a sequence, and the pool that all kinds share.

Sources: `v1/kv_cache_interface.py` (`FullAttentionSpec`, `SlidingWindowSpec`, `MLAAttentionSpec`, `MambaSpec`: `page_size_bytes`,
`max_memory_usage_bytes`) and `v1/core/kv_cache_utils.py` (`_get_kv_cache_groups_uniform_page_size`,
`get_max_concurrency_for_kv_cache_config`).
Layers of one kind form groups of one size; every group takes blocks of that size from one pool, and the last group of a kind is padded.

Not followed: how vLLM unifies pages of different sizes. States are counted with their own bytes, and pages of mixed sizes by the sum of
their layers; there vLLM's padding takes more, as much as a block of every group for each sequence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from rlu_server.sizing.model import Attention, Latent, Mixer, Model, State

BLOCK = 16
"""Tokens of a block on GPUs; vLLM's CPU backend has 128."""
LATENT_BLOCK = 64
"""What FlashMLA takes."""
SPARSE_LATENT_FP8 = 656
"""Bytes of a token in a layer of DeepSeek V3.2 with an fp8 cache (`fp8_ds_mla`): 512 of fp8, 16 of scales, 128 of 16-bit RoPE."""
INDEX_SCALE = 4
STEPS_IN_FLIGHT = 2
"""Batches that may hold tokens beyond a window at once: pipeline stages and one more, with asynchronous scheduling
(`VllmConfig.max_in_flight_tokens`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """How the cache is kept.

    Attributes:
        element_bytes: of one cached number: 2, or 1 for fp8.
        tensor: tensor parallelism, over which heads are spread.
        batched_tokens: `--max-num-batched-tokens`.
        block: tokens in a block.
        steps: batches whose tokens may be held at once beyond a window.
    """

    element_bytes: int
    tensor: int
    batched_tokens: int
    block: int = BLOCK
    steps: int = STEPS_IN_FLIGHT


def token_bytes(mixer: Mixer, settings: CacheSettings) -> int:
    """Bytes that one layer keeps on one GPU for each token it remembers; 0 for a state."""
    if isinstance(mixer, Attention):
        heads = max(1, -(-mixer.kv_heads // settings.tensor))
        return heads * (mixer.head_dim + mixer.value_dim) * settings.element_bytes
    if isinstance(mixer, Latent):
        # One vector for all heads: every rank holds it whole.
        if mixer.index_dim:
            own = (
                SPARSE_LATENT_FP8
                if settings.element_bytes == 1
                else (mixer.rank + mixer.rope_dim) * settings.element_bytes
            )
            return own + mixer.index_dim + INDEX_SCALE
        return (mixer.rank + mixer.rope_dim) * settings.element_bytes
    return 0


def state_bytes(mixer: Mixer, model_bytes: int, settings: CacheSettings) -> int:
    """Bytes that one layer keeps on one GPU for each sequence, however long."""
    if not isinstance(mixer, State):
        return 0
    return (mixer.convolution * model_bytes + mixer.recurrent * mixer.recurrent_bytes) // settings.tensor


def sequence_blocks(mixer: Mixer, context: int, settings: CacheSettings) -> int:
    """Blocks that one layer holds at most for a sequence of `context` tokens."""
    if isinstance(mixer, State):
        return 1
    if isinstance(mixer, Attention) and mixer.window is not None:
        in_flight = settings.steps * settings.batched_tokens
        if mixer.chunked:
            return -(-min(mixer.window + in_flight, context) // settings.block)
        return -(-min(mixer.window - 1 + in_flight, context) // settings.block) + 1
    return -(-context // settings.block)


def sequence_bytes(model: Model, context: int, settings: CacheSettings, stages: int = 1) -> int:
    """Bytes of the fullest GPU's cache that a sequence of `context` tokens takes at most.

    Args:
        stages: pipeline parallelism, over which layers are spread evenly.
    """
    kinds = Counter(layer.mixer for layer in model.layers)
    share = {mixer: -(-count // stages) for mixer, count in kinds.items()}
    pages = {token_bytes(mixer, settings) for mixer in share}
    if len(share) > 1 and len(pages) == 1:
        return _pooled(share, pages.pop() * settings.block, context, settings)
    return sum(
        count
        * (
            state_bytes(mixer, model.element_bytes, settings)
            or sequence_blocks(mixer, context, settings) * settings.block * token_bytes(mixer, settings)
        )
        for mixer, count in share.items()
    )


def _pooled(share: dict[Mixer, int], page: int, context: int, settings: CacheSettings) -> int:
    least, most = min(share.values()), max(share.values())
    group = most if most < least * 1.5 else least
    blocks = sum(
        -(-count // group) * sequence_blocks(mixer, context, settings) for mixer, count in share.items()
    )
    return blocks * group * page


def kinds(model: Model, settings: CacheSettings) -> dict[str, tuple[int, int, int]]:
    """By kind of layer: how many, bytes a token, bytes a sequence (states), on one GPU of those that share every layer."""
    found: dict[str, tuple[int, int, int]] = {}
    for mixer, count in Counter(layer.mixer for layer in model.layers).items():
        before = found.get(mixer.name, (0, 0, 0))[0]
        found[mixer.name] = (
            before + count,
            token_bytes(mixer, settings),
            state_bytes(mixer, model.element_bytes, settings),
        )
    return found
