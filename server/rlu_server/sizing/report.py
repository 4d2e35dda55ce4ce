"""The answer of `rlu size`: as a value for machines, as lines for people, and the values to paste into the Helm chart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from rlu_server.sizing import advice, weights
from rlu_server.sizing.advice import Change
from rlu_server.sizing.cache import kinds
from rlu_server.sizing.layout import Fit, Wish, cache_settings, fits
from rlu_server.sizing.model import Model
from rlu_server.sizing.roofline import Ceiling, ceiling

GIB, MIB = 2**30, 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What was found.

    Attributes:
        fit: the recommended layout; None when the shapes allow none.
        others: the other layouts.
        missing: why the wish does not fit; empty when it does.
    """

    model: Model
    wish: Wish
    gpu: str
    fit: Fit | None
    others: tuple[Fit, ...]
    ceiling: Ceiling | None
    missing: str
    changes: tuple[Change, ...]

    @property
    def serves(self) -> bool:
        return not self.missing


def size(model: Model, wish: Wish, gpu: str) -> Sizing:
    """Find room for a model. `gpu` is the name by which the GPU was chosen."""
    found = fits(model, wish)
    serves = bool(found) and found[0].serves(wish)
    best = found[0] if found else None
    together = 0 if best is None else min(int(best.concurrency), best.sequences * best.layout.data)
    return Sizing(
        model=model,
        wish=wish,
        gpu=gpu,
        fit=best,
        others=tuple(found[1:]),
        ceiling=ceiling(model, wish, best.layout, together) if best is not None and serves else None,
        missing="" if serves else advice.reason(model, wish, found),
        changes=() if serves else tuple(advice.changes(model, wish)),
    )


def engine_arguments(found: Sizing) -> list[str]:
    """vLLM's arguments for the recommended layout, all of which the lock accepts; `--max-model-len` is a setting of its own."""
    if found.fit is None or not found.serves:
        return []
    layout = found.fit.layout
    made = ["--tensor-parallel-size", str(layout.tensor)]
    if layout.pipeline > 1:
        made += ["--pipeline-parallel-size", str(layout.pipeline)]
    if layout.data > 1:
        made += ["--data-parallel-size", str(layout.data)]
    if layout.expert:
        made += ["--enable-expert-parallel"]
    made += ["--max-num-seqs", str(found.fit.sequences)]
    made += ["--max-num-batched-tokens", str(found.wish.gpu.batched_tokens)]
    made += ["--gpu-memory-utilization", "0.92"]
    if found.wish.cache_bytes == 1:
        made += ["--kv-cache-dtype", "fp8"]
    stored = found.model.quantization
    if stored is not None and not stored.stored and stored.method == "fp8":
        made += ["--quantization", "fp8"]
    return made


def helm_values(found: Sizing) -> dict[str, Any]:
    """Values of `helm/rlu` for one node; empty where it takes several."""
    wish = found.wish
    if not found.serves or wish.count > wish.gpu.per_node:
        return {}
    return {
        "hardware": {
            "profile": wish.gpu.profile(wish.count) or "unspecified",
            "gpus": {"vendor": wish.gpu.vendor, "resource": wish.gpu.resource, "count": wish.count},
        },
        "engine": {"maxModelLen": wish.context, "arguments": engine_arguments(found)},
    }


def to_json(found: Sizing) -> dict[str, Any]:
    """One value; sizes in bytes."""
    model, wish = found.model, found.wish
    return {
        "fits": found.serves,
        "model": {
            "architecture": model.architecture,
            "parameters": model.parameters,
            "active_parameters": model.active_parameters,
            "weights_bytes": weights.total(model),
            "weights_from": "files" if model.weight_bytes is not None else "estimate",
            "quantization": None if model.quantization is None else model.quantization.method,
            "max_context": model.max_context,
            "notes": list(model.notes),
        },
        "wish": {
            "gpu": found.gpu,
            "count": wish.count,
            "context": wish.context,
            "concurrency": wish.concurrency,
        },
        "recommended": None if found.fit is None else _fit_json(found, found.fit),
        "layers": {} if found.fit is None else _layers_json(found, found.fit),
        "ceiling": None if found.ceiling is None else asdict(found.ceiling),
        "others": [_fit_json(found, each) for each in found.others],
        "engine_arguments": engine_arguments(found),
        "helm_values": helm_values(found),
        "missing": found.missing or None,
        "changes": [asdict(change) for change in found.changes],
    }


def _layers_json(found: Sizing, fit: Fit) -> dict[str, Any]:
    settings = cache_settings(found.model, found.wish, fit.layout)
    return {
        name: {"count": count, "bytes_per_token": token, "bytes_per_sequence": state}
        for name, (count, token, state) in kinds(found.model, settings).items()
    }


def _fit_json(found: Sizing, fit: Fit) -> dict[str, Any]:
    layout = asdict(fit.layout)
    return {
        "layout": layout,
        "serves": fit.serves(found.wish),
        "gpu_bytes": {
            "memory": found.wish.gpu.memory,
            "weights": fit.weights,
            "activations": fit.activations,
            "fixed": fit.fixed,
            "reserve": fit.reserve,
            "kv_cache": max(fit.cache, 0),
            "short_of": max(-fit.cache, 0),
        },
        "kv_bytes_per_sequence": fit.sequence,
        "concurrency": round(fit.concurrency, 2),
    }


def lines(found: Sizing) -> list[str]:
    """For people."""
    model, wish = found.model, found.wish
    stored = model.quantization.method if model.quantization is not None else "16 bits"
    exact = "" if model.weight_bytes is not None else ", estimated"
    experts = model.experts
    said = f", {experts.active} of {experts.count} experts" if experts is not None else ""
    made = [
        f"{model.architecture}: {_billions(model.parameters)} parameters, {_billions(model.active_parameters)} for a token{said}; "
        f"weights {_gib(weights.total(model))} ({stored}{exact})",
        f"On {wish.count} × {wish.gpu.product}, {_gib(wish.gpu.memory)} each; sequences of {wish.context} tokens",
    ]
    made += [f"  note: {note}" for note in model.notes]
    if found.fit is not None:
        made += ["", *_memory(found, found.fit)]
    if not found.serves:
        made += ["", f"Does not fit: {found.missing}."]
        made += (
            ["What makes it fit, one thing at a time:"]
            if found.changes
            else ["No single change makes it fit."]
        )
        made += [f"  {change.option:<26} {change.meaning}" for change in found.changes]
        return made
    made += ["", *_ceiling(found)]
    made += ["", f"vLLM: --max-model-len {wish.context} {' '.join(engine_arguments(found))}"]
    values = helm_values(found)
    return [*made, "", "Helm values:", *_yaml(values)] if values else made


def _memory(found: Sizing, fit: Fit) -> list[str]:
    layout = fit.layout
    spread = f"tensor {layout.tensor} × pipeline {layout.pipeline} × data {layout.data}"
    made = [f"Layout: {spread}{', experts over all of them' if layout.expert else ''}. On the fullest GPU:"]
    rows = {
        "weights": fit.weights,
        "activations": fit.activations,
        "context, graphs": fit.fixed,
        "reserve": fit.reserve,
        "KV cache": fit.cache,
    }
    made += [f"  {name:<16}{_gib(size):>12}" for name, size in rows.items()]
    settings = cache_settings(found.model, found.wish, layout)
    for name, (count, token, state) in kinds(found.model, settings).items():
        each = f"{state} bytes a sequence" if state else f"{token} bytes a token"
        made.append(f"  {count} {name} layers: {each} each")
    made.append(
        f"A sequence takes {_gib(fit.sequence)} at most: {fit.concurrency:.1f} at once at full length."
    )
    return made


def _ceiling(found: Sizing) -> list[str]:
    top = found.ceiling
    if top is None:
        return []
    return [
        "Ceilings by the roofline (no engine reaches them; they serve to compare):",
        f"  prefill {top.prefill:,.0f} tokens/s in all; a prompt of full length {top.prompt_seconds:.2f} s or more",
        f"  decode  {top.alone:,.0f} tokens/s alone; {top.decode:,.0f} in all with {top.sequences} sequences ({top.bound}-bound)",
    ]


def _yaml(value: dict[str, Any], indent: int = 2) -> list[str]:
    # Scalars and lists are written as JSON, which YAML reads.
    made = []
    for name, inner in value.items():
        if isinstance(inner, dict):
            made += [f"{' ' * indent}{name}:", *_yaml(inner, indent + 2)]
        else:
            made.append(f"{' ' * indent}{name}: {json.dumps(inner)}")
    return made


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if abs(size) >= GIB // 10 else f"{size / MIB:.2f} MiB"


def _billions(count: int) -> str:
    return f"{count / 1e9:.1f} B" if count >= 10**8 else f"{count / 1e6:.1f} M"
