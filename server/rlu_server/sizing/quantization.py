"""How weights are stored, as a checkpoint's `quantization_config` says or as it is asked for.

Bits include scales and zero points: 4-bit formats keep 16 bits of scale (and 4 of zero point) for each group, mxfp4 8 bits for 32 weights,
nvfp4 8 for 16. Embeddings, output head and norms stay as they are; layers that a checkpoint leaves out beyond that are not looked up, which
makes the estimate too small by what they save. The files' own size, where they are there, has no such error.
"""

from __future__ import annotations

from rlu_attestation.errors import Malformed, Unsupported
from rlu_server.sizing.fields import Config, number, numbers, section, text
from rlu_server.sizing.model import Quantization

FP8_BLOCK = 128
ASKED = ("fp8", "awq", "gptq", "mxfp4", "nvfp4", "int8")
"""What may be asked for; of these vLLM makes only fp8 itself, from a 16-bit checkpoint, while it loads."""


def stored_quantization(whole: Config, config: Config) -> Quantization | None:
    """How the checkpoint is stored; None for 16 bits.

    Raises:
        Unsupported: `size.quantization.unsupported`.
    """
    given = section(whole, "quantization_config", "compression_config") or section(
        config, "quantization_config", "compression_config"
    )
    if given is None:
        return None
    method = text(given, "quant_method").lower().replace("_", "-")
    if method == "fp8":
        block = numbers(given, "weight_block_size")
        return Quantization(method="fp8", bits=8, activations=True, block=block[0] if block else 0)
    if method == "awq":
        return _grouped("awq", number(given, "bits", "w_bit", default=4), _group(given), zero=True)
    if method in ("gptq", "gptq-marlin"):
        return _grouped("gptq", number(given, "bits", default=4), _group(given))
    if method == "mxfp4":
        return Quantization(method="mxfp4", bits=4.25, activations=False, experts_only=True)
    if method == "compressed-tensors":
        return _compressed(given)
    if method in ("modelopt", "modelopt-fp4"):
        fp4 = "FP4" in text(given, "quant_algo").upper() or method.endswith("fp4")
        return _nvfp4() if fp4 else Quantization(method="modelopt", bits=8, activations=True)
    raise Unsupported(
        "size.quantization.unsupported",
        f"quantisation {method!r} is not sized; known are fp8, awq, gptq, mxfp4, compressed-tensors and modelopt",
    )


def asked_quantization(method: str) -> Quantization:
    """As if the checkpoint were quantised so. Raises ValueError for a method that is not in `ASKED`."""
    made = {
        "fp8": Quantization(method="fp8", bits=8, activations=True),
        "int8": Quantization(method="int8", bits=8, activations=True),
        "awq": _grouped("awq", 4, 128, zero=True),
        "gptq": _grouped("gptq", 4, 128),
        "mxfp4": Quantization(method="mxfp4", bits=4.25, activations=False),
        "nvfp4": _nvfp4(),
    }.get(method)
    if made is None:
        raise ValueError(f"{method!r} is not one of {ASKED}")
    return Quantization(
        method=made.method, bits=made.bits, activations=made.activations, block=made.block, stored=False
    )


def _group(given: Config) -> int:
    # -1 in GPTQ: one scale for a whole column.
    found = given.get("group_size", given.get("q_group_size", 128))
    if found == -1:
        return 0
    return number({"group_size": found}, "group_size", default=128)


def _grouped(method: str, bits: int, group: int, *, zero: bool = False) -> Quantization:
    if not 2 <= bits <= 8:
        raise Malformed("size.config.value", f"config.json: {bits} bits a weight are not from 2 to 8")
    overhead = (16 + (bits if zero else 0)) / group if group else 0.0
    return Quantization(method=method, bits=bits + overhead, activations=False)


def _nvfp4() -> Quantization:
    return Quantization(method="nvfp4", bits=4.5, activations=False)


def _compressed(given: Config) -> Quantization:
    groups = section(given, "config_groups") or {}
    first = next((group for group in groups.values() if isinstance(group, dict)), None)
    weights = section(first, "weights") if first else None
    if first is None or weights is None:
        raise Unsupported(
            "size.quantization.unsupported", "compressed-tensors without config_groups.*.weights is not sized"
        )
    bits = number(weights, "num_bits", default=8, least=2)
    inputs = section(first, "input_activations")
    eight = bits == 8 and inputs is not None and number(inputs, "num_bits", default=16) == 8
    made = _grouped("compressed-tensors", bits, number(weights, "group_size", default=0) if bits < 8 else 0)
    return Quantization(method=made.method, bits=made.bits, activations=eight)
