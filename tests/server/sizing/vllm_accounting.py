"""Asks vLLM itself, without an engine: the cache specifications of each model's layers, and the bytes of a sequence at full length.

    python vllm_accounting.py DIRECTORY…      → one JSON list on the last line of standard output

Models are built on the meta device, so no weights are needed or read.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

os.environ.update(
    VLLM_NO_USAGE_STATS="1",
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    VLLM_LOGGING_LEVEL="ERROR",
    VLLM_CPU_KVCACHE_SPACE="1",
)


def account(directory: str) -> dict[str, Any]:
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.core import kv_cache_utils

    settings = EngineArgs(
        model=directory, skip_tokenizer_init=True, enforce_eager=True, load_format="dummy"
    ).create_engine_config(UsageContext.OPENAI_API_SERVER)
    # The engine core would resolve it; how layers lie in memory does not change how much they take.
    settings.cache_config.kv_cache_layout = "LBNHC"
    with set_current_vllm_config(settings):
        start()
        with torch.device("meta"):
            initialize_model(settings)
        layers = settings.compilation_config.static_forward_context
        specs = {
            name: layer.get_kv_cache_spec(settings)
            for name, layer in layers.items()
            if hasattr(layer, "get_kv_cache_spec")
        }
        specs = {name: spec for name, spec in specs.items() if spec is not None}
        groups = kv_cache_utils.get_kv_cache_groups(settings, specs)
        return {
            "block": settings.cache_config.block_size,
            "batched_tokens": settings.scheduler_config.max_num_batched_tokens,
            "in_flight": settings.max_in_flight_tokens,
            "context": settings.model_config.max_model_len,
            "pages": sorted(
                [type(spec).__name__, spec.block_size, spec.page_size_bytes] for spec in specs.values()
            ),
            "sequence": kv_cache_utils._max_memory_usage_bytes_from_groups(settings, groups),
        }


def start() -> None:
    """The process groups of one worker, once."""
    from vllm.distributed import parallel_state

    if parallel_state.model_parallel_is_initialized():
        return
    place = tempfile.mktemp(prefix="rlu-vllm-")
    parallel_state.init_distributed_environment(1, 0, f"file://{place}", 0, "gloo")
    parallel_state.initialize_model_parallel(1, 1)


if __name__ == "__main__":
    print(json.dumps([account(directory) for directory in sys.argv[1:]]))
