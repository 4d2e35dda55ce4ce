"""Throughput at most: the larger of the time to compute and the time to read memory (Williams, Waterman, Patterson: Roofline, 2009).

Prefill is bound by computing, decoding by reading weights and cache. Communication, sampling, scheduling and kernels that miss their
peak are not counted, so these are ceilings; how near an engine comes was not measured. They serve to compare, not to promise.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_server.sizing import weights
from rlu_server.sizing.cache import CacheSettings, token_bytes
from rlu_server.sizing.layout import Layout, Wish, cache_settings
from rlu_server.sizing.model import Attention, Latent, Layer, Model, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """Tokens a second at most.

    Attributes:
        prefill: of all GPUs together, over prompts of the wished context.
        prompt_seconds: one such prompt on one engine, at least.
        alone: one sequence, decoding by itself.
        decode: all sequences together.
        sequences: how many those are.
        bound: what bounds `decode`: `memory` or `compute`.
    """

    prefill: float
    prompt_seconds: float
    alone: float
    decode: float
    sequences: int
    bound: str


def ceiling(model: Model, wish: Wish, layout: Layout, sequences: int) -> Ceiling:
    """The ceiling of a layout with `sequences` sequences decoding at the wished context."""
    rate = peak(model, wish)
    work = _prefill_work(model, wish.context)
    each = max(1, sequences)
    step, bound = _step(model, wish, layout, each)
    alone, _ = _step(model, wish, layout, 1)
    return Ceiling(
        prefill=rate * wish.count / work,
        prompt_seconds=work * wish.context / (rate * layout.tensor),
        alone=1 / (alone * layout.pipeline),
        decode=each / (step * layout.pipeline),
        sequences=each,
        bound=bound,
    )


def peak(model: Model, wish: Wish) -> int:
    """Operations a second of one GPU in the type that products are computed in."""
    found = model.quantization
    return wish.gpu.fp8 if found is not None and found.activations and wish.gpu.fp8 else wish.gpu.bf16


def _prefill_work(model: Model, context: int) -> float:
    """Operations for a token in the middle of a prompt; the output head is computed for the last one only."""
    attention = sum(_attention_work(layer, context / 2) for layer in model.layers)
    return 2 * (model.active_parameters - model.hidden * model.vocabulary) + attention


def _attention_work(layer: Layer, seen: float) -> float:
    mixer = layer.mixer
    if isinstance(mixer, State):
        return 6 * mixer.recurrent
    if isinstance(mixer, Latent):
        return 2 * mixer.heads * (mixer.score_dim + mixer.value_dim) * seen
    reach = seen if mixer.window is None else min(seen, mixer.window)
    return 2 * mixer.heads * (mixer.head_dim + mixer.value_dim) * reach


def _step(model: Model, wish: Wish, layout: Layout, sequences: int) -> tuple[float, str]:
    """Seconds of one decoding step of one stage, and what bounds it. Stages and engines have their sequences evenly."""
    settings = cache_settings(model, wish, layout)
    own = max(1.0, sequences / (layout.data * layout.pipeline))
    together = max(1.0, sequences / layout.pipeline) if layout.expert else own
    read = _weights_read(model, layout, together) + own * _cache_read(model, wish.context, settings)
    memory = read / layout.pipeline / wish.gpu.bandwidth
    work = own * (
        2 * model.active_parameters + sum(_decode_work(layer, wish.context) for layer in model.layers)
    )
    compute = work / (layout.tensor * layout.pipeline) / peak(model, wish)
    return (memory, "memory") if memory >= compute else (compute, "compute")


def _decode_work(layer: Layer, context: int) -> float:
    mixer = layer.mixer
    if isinstance(mixer, Latent):
        # Decoding works on the latent vectors themselves.
        return 2 * mixer.heads * (2 * mixer.rank + mixer.rope_dim) * context
    return _attention_work(layer, context)


def _weights_read(model: Model, layout: Layout, sequences: float) -> float:
    """Bytes of weights that a step reads on one GPU, over all stages: experts in the part that is expected to be hit."""
    found = model.hidden * model.vocabulary * model.element_bytes / layout.tensor
    for layer in model.layers:
        found += (weights.mixer_bytes(model, layer) + weights.dense_bytes(model, layer)) / layout.tensor
        if layer.experts is not None:
            hit = 1 - (1 - layer.experts.active / layer.experts.count) ** sequences
            found += weights.expert_bytes(model, layer) * hit / layout.experts_over
    return found


def _cache_read(model: Model, context: int, settings: CacheSettings) -> float:
    """Bytes of the cache that one sequence's step reads on one GPU."""
    found = 0.0
    for layer in model.layers:
        mixer = layer.mixer
        if isinstance(mixer, State):
            found += 2 * mixer.recurrent * mixer.recurrent_bytes / settings.tensor
        else:
            window = mixer.window if isinstance(mixer, Attention) else None
            found += token_bytes(mixer, settings) * (context if window is None else min(context, window))
    return found
