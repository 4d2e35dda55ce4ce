"""Ways to spread a model over GPUs, and what each leaves for the KV cache.

vLLM divides heads, keys and values, and intermediates over tensor parallelism; layers over pipeline stages; sequences over data-parallel
engines. Experts of data-parallel engines are spread over all of them (`--enable-expert-parallel`). Tensor parallelism stays within a node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rlu_server.sizing import overhead, weights
from rlu_server.sizing.cache import BLOCK, LATENT_BLOCK, CacheSettings, sequence_bytes
from rlu_server.sizing.gpus import GpuModel
from rlu_server.sizing.model import Attention, Latent, Layer, Model

DEFAULT_SEQUENCES = 256
ENOUGH = 0.6
"""Without a wish, a layout is good enough whose room is this part of the best one's: less communication is worth the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be served on what.

    Attributes:
        context: tokens of a sequence.
        concurrency: sequences of that length at once; None where as many as fit are welcome.
        cache_bytes: of one cached number.
    """

    gpu: GpuModel
    count: int
    context: int
    concurrency: int | None
    cache_bytes: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Parallelism; the three multiply to the number of GPUs."""

    tensor: int
    pipeline: int
    data: int
    expert: bool

    @property
    def experts_over(self) -> int:
        """GPUs over which a layer's experts are spread."""
        return self.tensor * (self.data if self.expert else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a layout leaves; bytes are of the fullest GPU.

    Attributes:
        cache: for the KV cache; negative when the rest does not fit.
        sequence: of the cache, for one sequence of the wished context.
        sequences: `--max-num-seqs` of one engine.
        concurrency: sequences of that context at once, over all engines.
    """

    layout: Layout
    weights: int
    activations: int
    fixed: int
    reserve: int
    cache: int
    sequence: int
    sequences: int
    concurrency: float

    def serves(self, wish: Wish) -> bool:
        return self.concurrency >= (wish.concurrency or 1)


def layouts(model: Model, wish: Wish) -> Iterator[Layout]:
    """Every way that the model's shapes allow."""
    for tensor in _divisors(wish.count):
        if tensor > wish.gpu.per_node or not all(_divides(model, layer, tensor) for layer in model.layers):
            continue
        for pipeline in _divisors(wish.count // tensor):
            data = wish.count // tensor // pipeline
            if pipeline > len(model.layers):
                continue
            for expert in (False, True):
                made = Layout(tensor=tensor, pipeline=pipeline, data=data, expert=expert)
                if _experts_divide(model, made):
                    yield made
                    break


def fits(model: Model, wish: Wish) -> list[Fit]:
    """What each layout leaves, the recommended one first.

    Recommended is, of those that serve the wish (without one: that have `ENOUGH` of the most room), the one with the fewest stages, then
    the least tensor parallelism, as vLLM's documentation on parallelism advises: no more splitting than the model needs.
    """
    found = [fit(model, wish, layout) for layout in layouts(model, wish)]
    most = max((each.concurrency for each in found), default=0.0)
    least = max(1.0, ENOUGH * most) if wish.concurrency is None else float(wish.concurrency)

    def rank(each: Fit) -> tuple[bool, int, int, float]:
        good = each.concurrency >= least
        return (
            not good,
            each.layout.pipeline if good else 0,
            each.layout.tensor if good else 0,
            -each.concurrency - each.cache / wish.gpu.memory,
        )

    return sorted(found, key=rank)


def fit(model: Model, wish: Wish, layout: Layout) -> Fit:
    """What a layout leaves."""
    batched = wish.gpu.batched_tokens
    wanted = DEFAULT_SEQUENCES if wish.concurrency is None else max(1, -(-wish.concurrency // layout.data))
    held = _weights(model, layout)
    active = overhead.activations(
        model, tokens=batched, sequences=wanted, tensor=layout.tensor, experts_over=layout.experts_over
    )
    layers = -(-len(model.layers) // layout.pipeline)
    fixed = overhead.fixed(model, gpus=layout.tensor * layout.pipeline * layout.data, layers=layers)
    reserve = int(wish.gpu.memory * overhead.RESERVE)
    left = int(wish.gpu.memory * overhead.UTILIZATION) - held - active - fixed - reserve
    sequence = sequence_bytes(model, wish.context, cache_settings(model, wish, layout), layout.pipeline)
    concurrency = max(left, 0) / max(sequence, 1) * layout.data
    return Fit(
        layout=layout,
        weights=held,
        activations=active,
        fixed=fixed,
        reserve=reserve,
        cache=left,
        sequence=sequence,
        sequences=wanted,
        concurrency=concurrency,
    )


def cache_settings(model: Model, wish: Wish, layout: Layout) -> CacheSettings:
    """How the cache of one engine is kept."""
    latent = any(isinstance(layer.mixer, Latent) for layer in model.layers)
    return CacheSettings(
        element_bytes=wish.cache_bytes,
        tensor=layout.tensor,
        batched_tokens=wish.gpu.batched_tokens,
        block=LATENT_BLOCK if latent else BLOCK,
        steps=layout.pipeline + 1,
    )


def _weights(model: Model, layout: Layout) -> int:
    """Bytes of weights on the fullest GPU: of the stage with the most layers, and the larger of the ends."""
    split = sum(
        (weights.mixer_bytes(model, layer) + weights.dense_bytes(model, layer)) / layout.tensor
        + weights.expert_bytes(model, layer) / layout.experts_over
        for layer in model.layers
    )
    stages = layout.pipeline
    largest = -(-len(model.layers) // stages) / len(model.layers)
    ends = model.embedding_parameters * model.element_bytes / layout.tensor
    if stages > 1 and not model.tied:
        ends /= 2
    return int((split * largest + ends) * weights.correction(model))


def _divisors(number: int) -> list[int]:
    return [found for found in range(1, number + 1) if number % found == 0]


def _divides(model: Model, layer: Layer, tensor: int) -> bool:
    mixer = layer.mixer
    if mixer.heads % tensor:
        return False
    if isinstance(mixer, Attention) and mixer.kv_heads % tensor and tensor % mixer.kv_heads:
        return False
    return _splits(model, layer.width, tensor)


def _experts_divide(model: Model, layout: Layout) -> bool:
    experts = model.experts
    if experts is None:
        return not layout.expert
    if layout.expert:
        return layout.experts_over > 1 and experts.count % layout.experts_over == 0
    # Without expert parallelism every expert is divided like a dense layer, and data-parallel engines would each hold them all.
    return layout.data == 1 and _splits(model, experts.width, layout.tensor)


def _splits(model: Model, width: int, over: int) -> bool:
    if width % over:
        return False
    block = model.quantization.block if model.quantization is not None else 0
    return over == 1 or not block or (width // over) % block == 0
