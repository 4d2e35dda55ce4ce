"""vLLM's command line: what we always set, what an operator may tune, and what is refused.

Refuse by default: an argument that is on neither list is refused too, because a new vLLM may give a new argument any meaning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rlu_server.settings_group import Group

ENTRY_MODULE = "vllm.entrypoints.openai.api_server"
HEADLESS_MODULE = "rlu_engine_headless"
"""Of a machine that does not lead its group; a file of ours beside vLLM (`inside/`)."""
NO_DOMAIN = "no-domain.invalid"
"""An empty list of media domains means *all* to vLLM; a name that cannot exist means none."""


class ArgumentRefused(Exception):
    """An engine argument would weaken the lock; the message names it and the reason."""


TUNABLE = frozenset(
    f"--{name}"
    for name in (
        *("async-scheduling", "attention-backend", "block-size", "chat-template-content-format", "convert"),
        *("cpu-offload-gb", "data-parallel-size", "disable-custom-all-reduce", "disable-log-stats", "dtype"),
        *(
            "enable-auto-tool-choice",
            "enable-chunked-prefill",
            "enable-expert-parallel",
            "enable-prefix-caching",
        ),
        *(
            "enforce-eager",
            "generation-config",
            "gpu-memory-utilization",
            "kv-cache-dtype",
            "limit-mm-per-prompt",
        ),
        *(
            "long-prefill-token-threshold",
            "max-cudagraph-capture-size",
            "max-logprobs",
        ),
        *("max-model-len", "max-num-batched-tokens", "max-num-queued-reqs"),
        *("max-num-queued-tokens", "max-num-seqs", "mm-processor-cache-gb", "no-async-scheduling"),
        *("no-enable-chunked-prefill", "no-enable-prefix-caching", "num-gpu-blocks-override"),
        *(
            "optimization-level",
            "override-generation-config",
            "pipeline-parallel-size",
            "prefill-context-parallel-size",
        ),
        *(
            "quantization",
            "reasoning-parser",
            "runner",
            "safetensors-load-strategy",
            "scheduling-policy",
            "seed",
        ),
        *("shutdown-timeout", "skip-mm-profiling", "stream-interval", "tensor-parallel-size"),
        *("tokenizer-mode", "tool-call-parser"),
    )
)
"""Arguments whose value can change speed, memory or format, and nothing about what is kept, loaded or reachable."""

_OURS = "rlu sets it itself"
_CONTENT = "it writes prompts or answers to the log"
_CODE = "it loads code that is not in the measured image"
_UNMEASURED = "it takes a file that the model manifest does not cover; put it into the model's directory"
_NETWORK = "the engine has no network"
_ADMIN = "it opens administrative endpoints"
REFUSED = {
    **dict.fromkeys(
        (
            "--model",
            "--served-model-name",
            "--uds",
            "--host",
            "--port",
            "--fingerprint-mode",
            "--load-format",
        ),
        _OURS,
    ),
    **dict.fromkeys(("--disable-fastapi-docs", "--allowed-media-domains", "--root-path", "--api-key"), _OURS),
    **dict.fromkeys(("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs"), "TLS ends in the gateway"),
    **dict.fromkeys(
        ("--enable-log-requests", "--enable-log-outputs", "--enable-log-deltas", "--max-log-len"), _CONTENT
    ),
    **dict.fromkeys(("--log-error-stack", "--log-config-file", "--uvicorn-log-level"), _CONTENT),
    **dict.fromkeys(("--collect-detailed-traces", "--otlp-traces-endpoint", "--profiler-config"), _CONTENT),
    **dict.fromkeys(
        ("--trust-remote-code", "--tool-parser-plugin", "--reasoning-parser-plugin", "--middleware"), _CODE
    ),
    **dict.fromkeys(
        ("--logits-processors", "--worker-cls", "--worker-extension-cls", "--scheduler-cls"), _CODE
    ),
    **dict.fromkeys(
        ("--compilation-config", "--additional-config", "--io-processor-plugin", "--hf-overrides"), _CODE
    ),
    **dict.fromkeys(
        ("--chat-template", "--tokenizer", "--hf-config-path", "--config", "--lora-modules"), _UNMEASURED
    ),
    **dict.fromkeys(
        ("--speculative-config", "--download-dir", "--revision", "--tokenizer-revision"), _UNMEASURED
    ),
    **dict.fromkeys(("--allowed-local-media-path",), "clients could read files of the engine's machine"),
    **dict.fromkeys(
        ("--trust-request-chat-template", "--trust-request-mm-kwargs"),
        "clients could run templates of their own",
    ),
    **dict.fromkeys(("--enable-prompt-embeds",), "clients could hand pickled tensors to the engine"),
    **dict.fromkeys(("--kv-transfer-config", "--kv-events-config", "--ec-transfer-config"), _NETWORK),
    **dict.fromkeys(("--kv-offloading-size", "--kv-offloading-backend"), "it keeps prompts' caches in files"),
    **dict.fromkeys(
        ("--enable-sleep-mode", "--enable-scale-out", "--tokens-only", "--enable-server-load-tracking"),
        _ADMIN,
    ),
    **dict.fromkeys(("--api-server-count",), "responses would depend on the process that answers"),
    **dict.fromkeys(
        (
            *(
                "--log-level",
                "--logging-config",
                "--enable-logging-iteration-details",
                "--enable-trace-replay",
            ),
            *("--enable-layerwise-nvtx-tracing", "--ray-workers-use-nsight"),
        ),
        _CONTENT,
    ),
    **dict.fromkeys(
        (
            "--model-class-overrides",
            "--model-impl",
            "--distributed-executor-backend",
            "--pt-load-map-location",
        ),
        _CODE,
    ),
    **dict.fromkeys(
        (
            *(
                "--tool-server",
                "--grpc",
                "--grpc-port",
                "--master-addr",
                "--master-port",
                "--nnodes",
                "--node-rank",
            ),
            *("--data-parallel-address", "--data-parallel-rpc-port", "--data-parallel-backend", "--headless"),
            *("--weight-transfer-config", "--hf-token"),
        ),
        _NETWORK,
    ),
    **dict.fromkeys(
        (
            "--enable-tokenizer-info-endpoint",
            "--enable-offline-docs",
            "--enable-elastic-ep",
            "--enable-fault-tolerance",
        ),
        _ADMIN,
    ),
    **dict.fromkeys(
        (
            *(
                "--enable-lora",
                "--default-mm-loras",
                "--spec-model",
                "--code-revision",
                "--mm-encoder-fp8-scale-path",
            ),
            *("--model-loader-extra-config",),
        ),
        _UNMEASURED,
    ),
    **dict.fromkeys(("--mm-encoder-fp8-scale-save-path",), "it writes files made of clients' images"),
    **dict.fromkeys(("--enable-mm-embeds",), "clients could hand pickled tensors to the engine"),
    **dict.fromkeys(("--media-io-kwargs",), "clients' media are not to be fetched"),
}


def own_arguments(
    *,
    model: str,
    name: str,
    socket: str,
    eager: bool,
    max_model_len: int | None,
    tool_parser: str | None,
    reasoning_parser: str | None,
) -> list[str]:
    """The arguments rlu always gives."""
    arguments = ["--model", model, "--served-model-name", name, "--uds", socket]
    arguments += ["--load-format", "safetensors", "--fingerprint-mode", "none"]
    arguments += [
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
        "--allowed-media-domains",
        NO_DOMAIN,
    ]
    if eager:
        arguments += ["--enforce-eager"]
    if max_model_len is not None:
        arguments += ["--max-model-len", str(max_model_len)]
    if tool_parser is not None:
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", tool_parser]
    if reasoning_parser is not None:
        arguments += ["--reasoning-parser", reasoning_parser]
    return arguments


def group_arguments(group: Group, leader: str) -> list[str]:
    """What an engine of several machines is given; nothing where it is alone."""
    if group.nodes == 1:
        return []
    found = ["--nnodes", str(group.nodes), "--node-rank", str(group.rank)]
    found += ["--master-addr", leader, "--master-port", str(group.port)]
    return found + (["--headless"] if group.rank else [])


def check(extra: Sequence[str]) -> list[str]:
    """The operator's further arguments, checked one by one.

    Raises:
        ArgumentRefused: names every argument that is not allowed, each with its reason.
    """
    refused = []
    for token in extra:
        if not token.startswith("-") or re.fullmatch(r"-\d+(\.\d+)?", token):
            continue  # a value
        name = token.split("=", 1)[0].split(".", 1)[0].replace("_", "-")
        if name in TUNABLE:
            continue
        reason = REFUSED.get(
            name, "it is not among the arguments known to keep the lock (rlu_server/engine/arguments.py)"
        )
        refused.append(f"{name}: {reason}")
    if refused:
        raise ArgumentRefused("engine arguments refused:\n  " + "\n  ".join(refused))
    return list(extra)


def stated(
    arguments: Sequence[str], runtime: Path, model: Path, place: str = "engine", leader: str = ""
) -> list[str]:
    """The arguments as the instance statement digests them: this start's paths by their role, everything else as given.

    Two starts of one deployment must state the same, or live sessions would be closed, and so must the replicas of one model, whose
    directories (`place`) differ; the model itself is named by its manifest.
    """
    places = (
        (str(runtime / place), "{runtime}/engine"),
        (str(runtime), "{runtime}"),
        (str(model), "{model}"),
    )
    found = []
    for argument in arguments:
        if leader and argument == leader:
            argument = "{leader}"
        for path, role in places:
            if argument == path or argument.startswith(path + "/"):
                argument = role + argument[len(path) :]
        found.append(argument)
    return found
