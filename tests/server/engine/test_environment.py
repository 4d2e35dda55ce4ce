from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlu_server.engine import environment
from rlu_server.engine.environment import VariableRefused

SCRATCH = Path("/run/rlu-x/engine")


def make(extra: dict[str, str] | None = None) -> dict[str, str]:
    return environment.environment(
        scratch=SCRATCH,
        python=Path("/venv/bin/python"),
        logging_config=Path("/inside/logging.json"),
        serving=SCRATCH / "engine.sock",
        kv_cache_gib=2,
        loopback_only=True,
        extra=extra or {},
    )


def test_everything_written_is_in_scratch() -> None:
    variables = make()
    written = [name for name in variables if re.search(r"HOME|DIR$|CACHE(?!_SPACE)|TMP|ROOT|BASE|PATH", name)]
    for name in set(written) - {"PATH", "VLLM_LOGGING_CONFIG_PATH", "VLLM_CPU_KVCACHE_SPACE"}:
        if not name.startswith("PYTHON"):
            assert Path(variables[name]).is_relative_to(SCRATCH), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_NO_USAGE_STATS", "1"),
        ("DO_NOT_TRACK", "1"),
        ("VLLM_PLUGINS", ""),
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("VLLM_LOGGING_CONFIG_PATH", "/inside/logging.json"),
        ("VLLM_CPU_KVCACHE_SPACE", "2"),
        ("VLLM_HOST_IP", "127.0.0.1"),
    ],
)
def test_set(name: str, value: str) -> None:
    assert make()[name] == value


@pytest.mark.parametrize(
    "name",
    [
        *(
            "LD_PRELOAD",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "VLLM_PLUGINS",
            "VLLM_SERVER_DEV_MODE",
            "VLLM_USE_MODELSCOPE",
        ),
        *(
            "VLLM_ALLOW_INSECURE_SERIALIZATION",
            "VLLM_LOGGING_LEVEL",
            "VLLM_DEBUG_DUMP_PATH",
            "VLLM_TRACE_FUNCTION",
        ),
        *(
            "NCCL_NET_PLUGIN",
            "NCCL_DEBUG_FILE",
            "SAGEMAKER_MODEL_PATH",
            "CUSTOM_PRE_PROCESS",
            "HTTPS_PROXY",
            "HOME",
        ),
        *("OMP_NUM_THREADS\n", "xOMP_NUM_THREADS", ""),
        # What vLLM 0.32 reads and what would keep, load, tell or open something.
        *(
            "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",
            "VLLM_LOGGING_CONFIG_PATH",
            "VLLM_LOGGING_STREAM",
            "VLLM_MEDIA_CACHE",
        ),
        *(
            "VLLM_ENABLE_RESPONSES_API_STORE",
            "VLLM_V1_USE_OUTLINES_CACHE",
            "VLLM_CACHE_ROOT",
            "VLLM_CONFIG_ROOT",
        ),
        *(
            "VLLM_RPC_BASE_PATH",
            "VLLM_MODEL_REDIRECT_PATH",
            "VLLM_LORA_RESOLVER_CACHE_DIR",
            "VLLM_HOST_IP",
            "VLLM_PORT",
        ),
        *(
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
            "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH",
            "VLLM_API_KEY",
            "VLLM_NCCL_SO_PATH",
        ),
        *(
            "VLLM_RUST_FRONTEND_PATH",
            "VLLM_USE_RUST_FRONTEND",
            "VLLM_USE_SIMPLE_KV_OFFLOAD",
            "S3_ENDPOINT_URL",
        ),
        *(
            "VLLM_USE_RAY_V2_EXECUTOR_BACKEND",
            "VLLM_NIXL_SIDE_CHANNEL_HOST",
            "VLLM_NO_USAGE_STATS",
            "DO_NOT_TRACK",
        ),
        *(
            "SAGEMAKER_ENABLE_STATEFUL_SESSIONS",
            "CUSTOM_SCRIPT_FILENAME",
            "CUSTOM_FASTAPI_PING_HANDLER",
            "CUSTOM_POST_PROCESS",
        ),
        *(
            "PROMETHEUS_MULTIPROC_DIR",
            "TORCH_LOGS",
            "TORCH_TRACE",
            "TORCHINDUCTOR_CACHE_DIR",
            "TRITON_CACHE_DIR",
            "TMPDIR",
        ),
    ],
)
def test_dangerous_variables_refuse(name: str) -> None:
    with pytest.raises(VariableRefused):
        make({name: "1"})


def test_tuning_passes() -> None:
    extra = {
        "OMP_NUM_THREADS": "4",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NCCL_P2P_LEVEL": "NVL",
        "VLLM_CPU_OMP_THREADS_BIND": "0-3",
    }
    assert make(extra).items() >= extra.items()


def test_socket_paths_stay_short() -> None:
    """vLLM puts sockets named by a UUID there; 107 bytes is the system's limit."""
    longest = (
        Path("/run/user/1000/rlu-abcdefgh/engine") / Path(make()["VLLM_RPC_BASE_PATH"]).name / ("u" * 36)
    )
    assert len(str(longest)) <= 107
