"""What a GPU's memory holds beside weights and KV cache. `UTILIZATION` is vLLM's; the rest are assumptions that no GPU was measured for.

vLLM measures these at its start (`gpu_worker.determine_available_memory`: weights, peak of a profiling run, other memory, CUDA graphs) and
gives the rest below `gpu_memory_utilization` to the KV cache. Here they are assumed, and the plan keeps `RESERVE` on top for
their error, which is not known: compare with what vLLM logs at its start, and correct them here.
"""

from __future__ import annotations

from rlu_server.sizing.model import Model

GIB = 2**30

UTILIZATION = 0.92
"""vLLM 0.32's default of `--gpu-memory-utilization` (`config/cache.py`). Exact."""

CONTEXT = GIB * 6 // 10
"""CUDA or HIP context and loaded kernels of one process. Assumed."""

COLLECTIVES = GIB * 3 // 2
"""NCCL or RCCL channels, all-reduce and symmetric-memory buffers, when GPUs work together. Assumed; depends on topology."""

GRAPHS_BASE, GRAPHS_LAYER = GIB * 3 // 10, GIB * 12 // 1000
"""CUDA graphs of the default capture sizes, fixed and for each layer. Assumed; `--enforce-eager` saves it and costs decoding speed."""

SAMPLER_BYTES = 12
"""For each row and word of the vocabulary while sampling: logits in 16 bits, in float32, and a float32 copy for the distribution."""

HIDDEN_COPIES = 6
"""Tensors of tokens times hidden size that live at once in a compiled decoder layer: residual, normalised input, queries with keys and
values, attention's output, the MLP's input and output. Counted from the layer's form, not measured."""

RESERVE = 0.03
"""Part of the GPU's memory that the plan leaves to the errors above, on top of what `UTILIZATION` leaves."""


def activations(model: Model, *, tokens: int, sequences: int, tensor: int, experts_over: int) -> int:
    """Peak bytes of a step of `tokens` tokens, with logits for `sequences` rows.

    Args:
        tensor: tensor parallelism.
        experts_over: over how many GPUs the experts are spread.
    """
    wide = 3 * model.width // tensor
    step = tokens * model.element_bytes * (HIDDEN_COPIES * model.hidden + wide)
    if model.experts is not None:
        shard = max(3 * model.experts.width // experts_over, 1) + model.hidden
        step += tokens * model.experts.active * model.element_bytes * shard // max(1, experts_over // tensor)
    rows = min(tokens, sequences)
    return max(step, tokens * model.hidden * model.element_bytes + rows * model.vocabulary * SAMPLER_BYTES)


def fixed(model: Model, *, gpus: int, layers: int) -> int:
    """Context, collectives and graphs of one GPU that holds `layers` of the model's layers, in bytes."""
    return CONTEXT + (COLLECTIVES if gpus > 1 else 0) + GRAPHS_BASE + GRAPHS_LAYER * layers
