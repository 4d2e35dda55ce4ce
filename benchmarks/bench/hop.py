"""What the gateway takes from an engine at saturation, and what sizing said about its memory. Pure: measurements in, verdicts out."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlu_server import sizing

LEAST_RATIO = 0.99
MOST_ADDED_MS = 1.0
NEAR_PEAK = 0.98
GIB = 2**30
_WEIGHTS = re.compile(r"Model loading took ([0-9.]+) GiB")
_CACHE = re.compile(r"Available KV cache memory: ([0-9.]+) GiB")
_BLOCKS = re.compile(r"^vllm:cache_config_info\{([^}]*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def saturating(tokens_per_s: Mapping[int, float]) -> int:
    """The fewest connections with which the engine does nearly the most it can."""
    most = max(tokens_per_s.values())
    return min(count for count, rate in tokens_per_s.items() if rate >= NEAR_PEAK * most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """Rounds of direct and relayed measurements, in turns."""

    direct_tokens: Sequence[float]
    relayed_tokens: Sequence[float]
    direct_ttft_ms: Sequence[float]
    relayed_ttft_ms: Sequence[float]

    @property
    def ratio(self) -> float:
        """Relayed tokens per second, of direct ones."""
        return statistics.median(self.relayed_tokens) / statistics.median(self.direct_tokens)

    @property
    def added_ms(self) -> float:
        """Of the median time to the first token."""
        return statistics.median(self.relayed_ttft_ms) - statistics.median(self.direct_ttft_ms)

    @property
    def met(self) -> bool:
        return self.ratio >= LEAST_RATIO and self.added_ms < MOST_ADDED_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of one GPU, in bytes, and tokens of KV cache; None: not said."""

    weights: float | None
    cache: float | None
    cache_tokens: float | None


def predicted(config: bytes, gpu: str, context: int, sequences: int) -> Memory:
    """What sizing says before anything was started."""
    wish = sizing.Wish(gpu=sizing.GPUS[gpu], count=1, context=context, concurrency=sequences)
    found = sizing.size(sizing.read_model(config, None), wish, gpu)
    fit = found.fit
    if fit is None:
        raise ValueError(f"{gpu}: {found.missing}")
    return Memory(weights=fit.weights, cache=fit.cache, cache_tokens=fit.cache * context / fit.sequence)


def measured(log: str, metrics: str) -> Memory:
    """What vLLM says of itself: in its log, and in its metrics."""
    weights, cache = _WEIGHTS.search(log), _CACHE.search(log)
    labels = _BLOCKS.search(metrics)
    said = dict(_LABEL.findall(labels.group(1))) if labels else {}
    tokens = None
    if said.get("num_gpu_blocks", "").isdigit() and said.get("block_size", "").isdigit():
        tokens = float(int(said["num_gpu_blocks"]) * int(said["block_size"]))
    return Memory(
        weights=float(weights.group(1)) * GIB if weights else None,
        cache=float(cache.group(1)) * GIB if cache else None,
        cache_tokens=tokens,
    )


def known_gpu(product: str) -> str | None:
    """Sizing's name for a GPU, by the product's name as its driver gives it."""
    return next((name for name, gpu in sizing.GPUS.items() if product.startswith(gpu.product)), None)


def table(result: Mapping[str, Any]) -> str:
    """The results for people."""
    hop = Hop(**result["hop"])
    lines = [
        f"{result['model']} with dummy weights on {result['gpu']}, vLLM {result['vllm']}, {result['connections']} connections",
        "",
        "| | direct | through the gateway | target |",
        "|---|--:|--:|--:|",
        f"| tokens/s at saturation | {statistics.median(hop.direct_tokens):,.0f} | {statistics.median(hop.relayed_tokens):,.0f} "
        f"({hop.ratio:.3f} ×) | ≥ {LEAST_RATIO} × |",
        f"| time to first token p50, ms | {statistics.median(hop.direct_ttft_ms):.2f} | {statistics.median(hop.relayed_ttft_ms):.2f} "
        f"({hop.added_ms:+.2f}) | < +{MOST_ADDED_MS:g} |",
    ]
    if result.get("predicted") is not None:
        lines += ["", "| memory | `rlu size` | measured | difference |", "|---|--:|--:|--:|"]
        for name, unit in (("weights", GIB), ("cache", GIB), ("cache_tokens", 1)):
            said, seen = result["predicted"][name], result["measured"][name]
            label = {"weights": "weights, GiB", "cache": "KV cache, GiB", "cache_tokens": "KV cache, tokens"}[
                name
            ]
            digits = 0 if unit == 1 else 2
            shown = "–" if seen is None else f"{seen / unit:,.{digits}f}"
            off = "–" if not seen else f"{100 * (said - seen) / seen:+.1f} %"
            lines.append(f"| {label} | {said / unit:,.{digits}f} | {shown} | {off} |")
    return "\n".join(lines)
