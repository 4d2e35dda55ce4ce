"""How much room a model needs, and how to spread it: pure arithmetic from a model's `config.json` and a table of GPUs."""

from rlu_server.sizing.config import read_model
from rlu_server.sizing.gpus import GPUS, GpuModel
from rlu_server.sizing.layout import Wish
from rlu_server.sizing.report import Sizing, engine_arguments, helm_values, lines, size, to_json
from rlu_server.sizing.weights import quantized

__all__ = [
    "GPUS",
    "GpuModel",
    "Sizing",
    "Wish",
    "engine_arguments",
    "helm_values",
    "lines",
    "quantized",
    "read_model",
    "size",
    "to_json",
]
