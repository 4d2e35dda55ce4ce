"""Routers and proxies from the package registry, each in an environment of its own, made when the benchmark asks for it.

The production-stack router is not among them: it is on no registry. All of them reach the engine over TCP, since none has a Unix socket
as its upstream.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bench.peers import Bench, System
from bench.processes import BenchError, Process, accepts, free_port, start, wait_until

VLLM_ROUTER = "0.1.17"
SGLANG_ROUTER = "0.3.2"
LITELLM = "1.106.2"
MANY = "4096"
"""Requests at once, beyond what any scenario asks."""


def installed(cache: Path, requirement: str) -> Path:
    """The `bin` directory of an environment that has a pinned requirement, `name[extra]==version`.

    Raises:
        BenchError: it did not install.
    """
    name, _, version = requirement.partition("==")
    home = cache / f"{name.partition('[')[0]}-{version}"
    complete = home / ".complete"
    if not complete.exists():
        print(f"  installing {requirement}", file=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        command: list[str | Path] = [
            home / "bin" / "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            requirement,
        ]
        done = subprocess.run(command, capture_output=True)
        if done.returncode:
            raise BenchError(f"{requirement} did not install:\n{done.stderr.decode(errors='replace')[-800:]}")
        complete.touch()
    return home / "bin"


def vllm_router(bench: Bench) -> System:
    """vLLM's router, in Rust."""
    program = installed(bench.cache, f"vllm-router=={VLLM_ROUTER}") / "vllm-router"
    port, process = _router(bench, "vllm-router", [program])
    return System("vllm-router", f"http://127.0.0.1:{port}", [process], version=VLLM_ROUTER)


def sglang_router(bench: Bench) -> System:
    """SGLang's router, in Rust."""
    program = installed(bench.cache, f"sglang-router=={SGLANG_ROUTER}") / "python"
    port, process = _router(bench, "sglang-router", [program, "-m", "sglang_router.launch_router"])
    return System("sglang-router", f"http://127.0.0.1:{port}", [process], version=SGLANG_ROUTER)


def litellm(bench: Bench) -> System:
    """LiteLLM's proxy, with a key, which it demands, and nothing else."""
    program = installed(bench.cache, f"litellm[proxy]=={LITELLM}") / "litellm"
    port, key = free_port(), f"sk-{secrets.token_urlsafe(32)}"
    upstream = {
        "model": "hosted_vllm/scripted",
        "api_base": f"http://127.0.0.1:{bench.engine.port}/v1",
        "api_key": "none",
    }
    config = bench.scratch / "litellm.json"  # JSON is YAML
    document = {
        "model_list": [{"model_name": "scripted", "litellm_params": upstream}],
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": key},
    }
    config.write_text(json.dumps(document))
    command: list[str | Path] = [program, "--config", config, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", str(bench.workers), "--telemetry", "False"]
    # Its table of prices would come from the network.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    process = start("litellm", command, bench.cores, bench.scratch, **quiet)
    return System(
        "litellm",
        f"http://127.0.0.1:{port}",
        [wait_until(process, accepts(port), 120)],
        key=key,
        version=LITELLM,
        only=frozenset({"short", "flooded", "agent"}),
    )


def _router(bench: Bench, name: str, program: list[str | Path]) -> tuple[int, Process]:
    """Both routers come from one root and take the same options."""
    port, metrics = free_port(), free_port()
    command = [*program, "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics)]
    command += ["--worker-urls", f"http://127.0.0.1:{bench.engine.port}", "--policy", "round_robin"]
    command += ["--log-level", "error", "--max-concurrent-requests", MANY]
    return port, wait_until(start(name, command, bench.cores, bench.scratch), accepts(port), 60)
