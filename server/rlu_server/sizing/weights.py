"""Bytes of weights: exact from the files where they are, else from the parameters and how they are stored."""

from __future__ import annotations

from dataclasses import replace

from rlu_server.sizing.model import Layer, Model, Quantization
from rlu_server.sizing.quantization import asked_quantization


def quantized(model: Model, method: str | None) -> Model:
    """The model as it would be served with `--quantization`.

    A checkpoint that is stored in another form than asked for keeps its own; `ValueError` says so. When the bytes of its files were known,
    they are reckoned anew in proportion.
    """
    if method is None:
        return model
    stored = model.quantization
    if stored is not None:
        if stored.method != method:
            raise ValueError(f"the checkpoint is stored as {stored.method}; {method} cannot be made of it")
        return model
    changed = replace(model, quantization=asked_quantization(method), weight_bytes=None)
    if model.weight_bytes is None:
        return changed
    return replace(changed, weight_bytes=model.weight_bytes * estimate(changed) // estimate(model))


def estimate(model: Model) -> int:
    """Bytes of all weights, from the parameters."""
    return model.embedding_parameters * model.element_bytes + sum(
        mixer_bytes(model, layer) + dense_bytes(model, layer) + expert_bytes(model, layer)
        for layer in model.layers
    )


def total(model: Model) -> int:
    """Bytes of all weights, as exact as is known."""
    return model.weight_bytes or estimate(model)


def correction(model: Model) -> float:
    """What the files say over what the parameters say."""
    return total(model) / estimate(model)


def mixer_bytes(model: Model, layer: Layer) -> int:
    return _bytes(model, layer.mixer_parameters, expert=False)


def dense_bytes(model: Model, layer: Layer) -> int:
    return _bytes(model, layer.dense_parameters, expert=False)


def expert_bytes(model: Model, layer: Layer) -> int:
    return _bytes(model, layer.expert_parameters, expert=True)


def _bytes(model: Model, parameters: int, *, expert: bool) -> int:
    found: Quantization | None = model.quantization
    if found is None or (found.experts_only and not expert):
        return parameters * model.element_bytes
    return int(parameters * found.bits / 8)
