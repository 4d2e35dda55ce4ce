"""What to change, one thing at a time, when a wish does not fit: every single change that suffices, the smallest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rlu_server.sizing import weights
from rlu_server.sizing.gpus import GPUS, GpuModel
from rlu_server.sizing.layout import Fit, Wish, fits
from rlu_server.sizing.model import Model

STEP = 1024
"""Contexts are advised in multiples of this."""
MOST_GPUS = 64


@dataclass(frozen=True, slots=True)
class Change:
    """One change that makes it fit: the option to give, and what it means in words."""

    option: str
    meaning: str


def changes(model: Model, wish: Wish) -> list[Change]:
    """Every kind of single change that suffices, from what costs least to what costs most."""
    return [found for found in _tried(model, wish) if found is not None]


def reason(model: Model, wish: Wish, found: list[Fit]) -> str:
    """Why nothing fits, in words."""
    if not found:
        return f"{wish.count} GPUs divide neither the heads nor the experts of this model as vLLM needs it; use 1, 2, 4 or 8"
    best = max(found, key=lambda each: each.cache)
    if best.cache <= 0:
        return f"weights and overheads need {-best.cache / 2**30:.1f} GiB more on each GPU than it has, before any KV cache"
    best = max(found, key=lambda each: each.concurrency)
    wanted = wish.concurrency or 1
    return f"the KV cache has room for {best.concurrency:.2f} sequences of {wish.context} tokens, not for {wanted}"


def _tried(model: Model, wish: Wish) -> Iterator[Change | None]:
    yield _cache_type(model, wish)
    yield _fewer(model, wish)
    yield _shorter(model, wish)
    yield _narrower(model, wish)
    yield _more_gpus(model, wish)
    yield _larger_gpu(model, wish)


def _serves(model: Model, wish: Wish) -> bool:
    found = fits(model, wish)
    return bool(found) and found[0].serves(wish)


def _cache_type(model: Model, wish: Wish) -> Change | None:
    if wish.cache_bytes == 1 or not wish.gpu.fp8 or not _serves(model, replace(wish, cache_bytes=1)):
        return None
    return Change("--kv-cache-dtype fp8", "keep the KV cache in 8 bits; check your answers' quality")


def _fewer(model: Model, wish: Wish) -> Change | None:
    if wish.concurrency is None:
        return None
    most = int(max((each.concurrency for each in fits(model, wish)), default=0))
    for fewer in range(min(most, wish.concurrency - 1), 0, -1):
        if _serves(model, replace(wish, concurrency=fewer)):
            return Change(
                f"--concurrency {fewer}", f"serve {fewer} sequences of {wish.context} tokens at once"
            )
        if fewer < most - 2:
            break
    return None


def _shorter(model: Model, wish: Wish) -> Change | None:
    low, high = 0, (wish.context - 1) // STEP
    while low < high:
        middle = (low + high + 1) // 2
        if _serves(model, replace(wish, context=middle * STEP)):
            low = middle
        else:
            high = middle - 1
    return Change(f"--context {low * STEP}", f"sequences of at most {low * STEP} tokens") if low else None


def _narrower(model: Model, wish: Wish) -> Change | None:
    if model.quantization is not None or not wish.gpu.fp8:
        return None
    if not _serves(weights.quantized(model, "fp8"), wish):
        return None
    return Change("--quantization fp8", "weights in 8 bits, made while loading; check your answers' quality")


def _more_gpus(model: Model, wish: Wish) -> Change | None:
    count = 1
    while count <= MOST_GPUS:
        if count > wish.count and _serves(model, replace(wish, count=count)):
            nodes = -(-count // wish.gpu.per_node)
            where = "" if nodes == 1 else f", on {nodes} nodes"
            return Change(f"--count {count}", f"{count} GPUs{where}")
        count *= 2
    return None


def _larger_gpu(model: Model, wish: Wish) -> Change | None:
    larger: list[tuple[int, str, GpuModel]] = sorted(
        (gpu.memory, name, gpu)
        for name, gpu in GPUS.items()
        if gpu.vendor == wish.gpu.vendor and gpu.memory > wish.gpu.memory
    )
    for _, name, gpu in larger:
        if _serves(model, replace(wish, gpu=gpu)):
            return Change(f"--gpu {name}", f"{wish.count} of {gpu.product}")
    return None
