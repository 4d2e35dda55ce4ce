"""The engine's environment: complete, so that nothing is inherited.

Every cache, temporary file, socket and configuration directory of vLLM and what it loads is pointed into scratch; what would send, keep
or load something is off. The operator may add variables from a short list only, because many of vLLM's name a file or a program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

ALLOWED = re.compile(
    r"(CUDA_(VISIBLE_DEVICES|DEVICE_ORDER|MODULE_LOADING)|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES)|(HIP|ROCR)_VISIBLE_DEVICES"
    r"|HSA_(NO_SCRATCH_RECLAIM|OVERRIDE_GFX_VERSION)|(OMP|MKL)_NUM_THREADS|(PYTORCH_(CUDA|HIP)|PYTORCH)_ALLOC_CONF|LD_LIBRARY_PATH"
    r"|NCCL_(P2P|NVLS|CUMEM|IB|SHM)_[A-Z_]+|NCCL_(ALGO|PROTO|MAX_NCHANNELS|MIN_NCHANNELS)|TORCH_NCCL_AVOID_RECORD_STREAMS"
    r"|VLLM_CPU_[A-Z_]+|VLLM_(ATTENTION_BACKEND|USE_[A-Z0-9_]+|ROCM_[A-Z0-9_]+|FLASH_ATTN_VERSION|MLA_DISABLE|MARLIN_[A-Z_]+)"
    r"|VLLM_(ENGINE_READY_TIMEOUT_S|RPC_TIMEOUT|ALLOW_LONG_MAX_MODEL_LEN|SLEEP_WHEN_IDLE|WORKER_MULTIPROC_METHOD))"
)
FORBIDDEN = frozenset(
    {
        *(
            "VLLM_USE_MODELSCOPE",
            "VLLM_USE_RUST_FRONTEND",
            "VLLM_USE_RUST_BENCH",
            "VLLM_USE_SIMPLE_KV_OFFLOAD",
        ),
        *("VLLM_USE_RAY_COMPILED_DAG_CHANNEL_TYPE", "VLLM_USE_RAY_COMPILED_DAG_OVERLAP_COMM"),
        *("VLLM_USE_RAY_WRAPPED_PP_COMM", "VLLM_USE_RAY_V2_EXECUTOR_BACKEND"),
    }
)
"""Match `ALLOWED` by form, but load from elsewhere, keep caches of prompts in files, or open connections."""


class VariableRefused(Exception):
    """A variable may not be set for the engine; the message names it."""


def check(extra: Mapping[str, str]) -> None:
    """The operator's further variables.

    Raises:
        VariableRefused: a name that is not allowed.
    """
    refused = sorted(name for name in extra if not ALLOWED.fullmatch(name) or name in FORBIDDEN)
    if refused:
        raise VariableRefused(
            f"engine.environment may not set {', '.join(refused)}: such variables can load code, keep content or open the network"
        )


def environment(
    *,
    scratch: Path,
    python: Path,
    logging_config: Path,
    serving: Path,
    kv_cache_gib: int | None,
    loopback_only: bool,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """All variables of the engine's process.

    Raises:
        VariableRefused: `extra` has a name that is not allowed.
    """
    check(extra)
    variables = {
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "USER": "rlu",
        "LOGNAME": "rlu",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **_places(scratch),
        **_off(),
        "VLLM_LOGGING_CONFIG_PATH": str(logging_config),
        "RLU_ENGINE_SERVING": str(serving),
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
    }
    if loopback_only:
        variables.update(VLLM_HOST_IP="127.0.0.1", GLOO_SOCKET_IFNAME="lo", NCCL_SOCKET_IFNAME="lo")
    if kv_cache_gib is not None:
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_gib)
    return {**variables, **extra}


def _places(scratch: Path) -> dict[str, str]:
    """Names kept short: Unix socket paths beneath VLLM_RPC_BASE_PATH end at 107 bytes."""
    places = {
        "HOME": "h",
        "TMPDIR": "t",
        "XDG_CACHE_HOME": "c",
        "XDG_CONFIG_HOME": "h",
        "XDG_DATA_HOME": "h",
        "HF_HOME": "c/hf",
        "VLLM_CACHE_ROOT": "c/vllm",
        "VLLM_CONFIG_ROOT": "h/vllm",
        "VLLM_ASSETS_CACHE": "c/assets",
        "VLLM_XLA_CACHE_PATH": "c/xla",
        "VLLM_RPC_BASE_PATH": "r",
        "TORCHINDUCTOR_CACHE_DIR": "c/inductor",
        "TORCH_HOME": "c/torch",
        "TORCH_EXTENSIONS_DIR": "c/torch-extensions",
        "TRITON_HOME": "c",
        "TRITON_CACHE_DIR": "c/triton",
        "NUMBA_CACHE_DIR": "c/numba",
        "CUDA_CACHE_PATH": "c/cuda",
        "FLASHINFER_WORKSPACE_BASE": "c",
        "TILELANG_CACHE_DIR": "c/tilelang",
        "OUTLINES_CACHE_DIR": "c/outlines",
        "MPLCONFIGDIR": "h",
    }
    return {name: str(scratch / place) for name, place in places.items()}


def directories(scratch: Path) -> list[Path]:
    """Directories that must be there before the engine starts."""
    return [scratch / name for name in ("h", "t", "c", "r")]


def _off() -> dict[str, str]:
    return {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_PLUGINS": "",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
