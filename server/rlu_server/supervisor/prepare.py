"""From settings to a deployment: everything that can be refused is refused here, before any process is started."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlu_attestation.errors import Malformed, RluError
from rlu_server.core.limits.rules import parse_file as parse_limits
from rlu_server.core.names import AliasRefused, Names
from rlu_server.engine import launch as engine
from rlu_server.engine import readiness
from rlu_server.engine.arguments import ArgumentRefused
from rlu_server.engine.environment import VariableRefused
from rlu_server.models import verifying
from rlu_server.models.errors import BadArgument, ManifestError
from rlu_server.settings import Engine, FurtherEngine, Settings
from rlu_server.supervisor import group, models, plan
from rlu_server.supervisor.copies import Copy, of_auth, of_tls
from rlu_server.supervisor.errors import LockRefused, Misconfigured, ModelRefused, Unavailable
from rlu_server.supervisor.fleet import Served
from rlu_server.supervisor.handover import AskedWeights
from rlu_server.supervisor.holding import Holding
from rlu_server.supervisor.plan import Host
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.server import Deployment
from rlu_server.supervisor.weights import Weights, is_sealed

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")
Progress = Callable[[int, int], None]
Opening = Callable[[Holding], None]


def model_name(settings: Settings, given: str) -> str:
    """The name clients use: configured, else the hub id or the directory's name.

    Raises:
        Misconfigured: it has characters that do not belong into an API's model name.
    """
    return _name(settings.model.name, given)


def _name(configured: str, given: str) -> str:
    name = configured or (
        given if models.HUB_ID.fullmatch(given) else Path(given).expanduser().resolve().name
    )
    if not NAME.fullmatch(name):
        raise Misconfigured(f"{name!r} cannot be a model's name; set one with --name ([model] name)")
    return name


def deployment(
    settings: Settings,
    runtime: Runtime,
    variables: Mapping[str, str],
    progress: Progress | None,
    role: str | None = None,
) -> Deployment:
    """Decide everything.

    Args:
        role: the only one that runs here; None: all. What the others need is not asked for.

    Raises:
        ServeError: what is refused, and what to do.
    """
    state = settings.state_dir.expanduser().resolve()
    group.check(settings, role)
    if role is not None:
        _check_user(settings, role)
    if role in (None, "attestor"):
        _check_state(state, settings, role)
        check_tpm(settings)
    given = given_models(settings)
    places = [_place(one.path, state, role) for one in given]
    check_names([one.name for one in given], settings)
    host = Host(
        Path(sys.executable),
        variables,
        _group(plan.tpm_device(settings.attestation.tcti)),
        tuple(sorted(Path("/dev").glob("nvidia[0-9]*"))),
        accelerator_groups(Path("/dev")),
        alone=role is not None,
        nvidia_switches=tuple(sorted(Path("/dev").glob("nvidia-nvswitch*"))),
    )
    in_force = _in_force(
        settings, runtime, state, [(str(p), one.name) for p, one in zip(places, given, strict=True)]
    )
    if role in (None, "gateway"):
        check_port(in_force)
    version, served = "", tuple[Served, ...]()
    if role in (None, "engine"):
        version, served = _served(in_force, runtime, given, places, progress, host)
    return Deployment(
        settings=in_force,
        copies=copies(settings, in_force, state) if role in (None, "gateway") else (),
        served=served,
        engine_version=version,
        host=host,
    )


def _served(
    in_force: Settings,
    runtime: Runtime,
    given: Sequence[_Model],
    places: Sequence[Path],
    progress: Progress | None,
    host: Host,
    opening: Opening = lambda _: None,
) -> tuple[str, tuple[Served, ...]]:
    """The engine's version, and the models, measured."""
    python = interpreter(in_force.engine.python)
    version = engine.engine_version(python, Path(sys.executable))
    if version is None:
        raise Unavailable(
            f"{python} has no vLLM; install it there, or set [engine] python to an interpreter that has it"
        )
    leader = group.leader_address(in_force)
    opened = _weights(in_force, runtime, places, host)
    for one in opened:
        if one is not None:
            opening(one)
    try:
        signers = verifying.read_signers(in_force.model.signers)
        fleet = iter(in_force.fleet())
        served = []
        for model, place, weights in zip(given, places, opened, strict=True):
            directory = place
            if weights is not None:
                weights.decide()  # until all engines have loaded them (`Fleet.start`)
                directory = weights.place
            starts = tuple(
                engine.plan(
                    in_force,
                    model=directory,
                    name=model.name,
                    runtime=runtime.path,
                    python=python,
                    device=engine.accelerator(),
                    own=model.engine,
                    place=next(fleet)[0],
                    devices=devices,
                    leader=leader,
                )
                for devices in model.engine.devices or ("",) * model.engine.replicas
            )
            known = None if weights is None else weights.manifest
            measured = verifying.measure(directory, in_force.model.signature, signers, progress, known=known)
            # Later than it is measured: what is read here is what was signed, or the engine does not start.
            canary = readiness.load_canary(directory)
            served.append(Served(starts, measured, canary, verifying.Unchanged(measured), weights))
    except (ArgumentRefused, VariableRefused) as error:
        raise Misconfigured(str(error)) from error
    except (ManifestError, readiness.EngineUnfit) as error:
        raise Misconfigured(f"the model cannot be served: {error}") from error
    except BadArgument as error:
        raise Misconfigured(f"[model] signers: {error.message}") from error
    except RluError as error:
        raise ModelRefused(
            f"{directory}: {error.message} [{error.code}]. Name the signers' public keys in [model] signers; or serve it unverified with "
            '[model] signature = "unsafe-optional", which the statement then says'
        ) from error
    except OSError as error:
        raise Unavailable(f"the model cannot be read: {error}") from error
    return version, tuple(served)


def _weights(
    settings: Settings, runtime: Runtime, places: Sequence[Path], host: Host
) -> list[Holding | None]:
    """What opens each of the models; None for those that are not sealed. Raises ServeError."""
    user = plan.users(settings, host)["engine"]
    found: list[Holding | None] = []
    for number, place in enumerate(places, 1):
        if not is_sealed(place):
            found.append(None)
            continue
        if settings.group.nodes > 1:
            raise Misconfigured(
                f"{place} is encrypted, and the machines that do not lead a group have nobody to open it"
            )
        if host.alone:
            if not settings.weights.broker:
                raise Misconfigured(
                    f"{place} is encrypted: set [weights] broker to its vendor's key broker, for all roles"
                )
            found.append(AskedWeights(settings, runtime, place, number))
        else:
            found.append(Weights(settings, runtime, place, number, user))
    return found


def with_model(
    deployment: Deployment,
    runtime: Runtime,
    directory: Path,
    opening: Opening = lambda _: None,
    progress: Progress | None = None,
) -> Deployment:
    """The same, with the first model from another directory; verified as at a start. Nothing is started or stopped.

    An encrypted model is opened beside the one that serves.

    Args:
        opening: told of an encrypted model before it is opened, so that this can be ended.

    Raises:
        ServeError: what is refused; nothing of it is left.
    """
    changes = deployment.settings.model_dump()
    changes["model"]["path"] = str(directory)
    settings = Settings.model_validate(changes)
    opened: list[Holding] = []

    def told(weights: Holding) -> None:
        opened.append(weights)
        opening(weights)

    try:
        version, (first,) = _served(
            settings, runtime, given_models(settings)[:1], [directory], progress, deployment.host, told
        )
    except BaseException:
        for one in opened:
            one.close()
        raise
    return replace(
        deployment, settings=settings, served=(first, *deployment.served[1:]), engine_version=version
    )


@dataclass(frozen=True, slots=True)
class _Model:
    path: str
    name: str
    engine: Engine | FurtherEngine


def given_models(settings: Settings) -> list[_Model]:
    """The models, that of `[model]` first. Raises Misconfigured."""
    further = settings.further_engines
    return [
        _Model(settings.model.path, model_name(settings, settings.model.path), settings.engine),
        *(_Model(one.path, _name(one.name, one.path), one) for one in further),
    ]


def _place(path: str, state: Path, role: str | None) -> Path:
    """Where a model is. One role alone fetches nothing, and only the engine needs it; the attestor follows links when it opens one."""
    if role is None:
        return models.directory(path, state)
    place = Path(path).expanduser()
    if role == "engine" and not place.is_dir():
        raise Misconfigured(f"[model] path: {path} is no directory here; mount the model there")
    # Where it leads now: what is opened later is the version that was measured.
    return place.absolute() if role == "attestor" else place.resolve()


def check_names(served: list[str], settings: Settings) -> None:
    try:
        Names.of(served, settings.model.aliases)
    except AliasRefused as error:
        raise Misconfigured(f"{error} ([model] name and aliases, [[further_engines]] name)") from error


def _in_force(settings: Settings, runtime: Runtime, state: Path, places: list[tuple[str, str]]) -> Settings:
    changes: dict[str, Any] = settings.model_dump()
    changes["state_dir"], changes["runtime_dir"] = state, runtime.path
    for section, (path, name) in zip((changes["model"], *changes["further_engines"]), places, strict=True):
        section.update(path=path, name=name)
    changes["gateway"].update(
        api_keys_file=runtime.path / "keys" / "apikeys.json",
        port=settings.gateway.port or _free_port(settings.gateway.host),
        **of_tls(settings, runtime.path / "keys")[0],
    )
    changes["auth"], _ = of_auth(settings, runtime.path / "keys")
    changes["admission"].update(limits_file=runtime.path / "keys" / "limits.toml")
    return Settings.model_validate(changes)


def copies(settings: Settings, in_force: Settings, state: Path) -> tuple[Copy, ...]:
    keys = settings.gateway.api_keys_file or state / "apikeys.json"
    auth = settings.auth
    if (auth.issuers or auth.certificates.mode != "off") and not keys.exists():
        raise Misconfigured(
            f"there is no key file {keys}, and pseudonyms are made with a secret that is kept in it: make one with `rlu apikeys init`"
        )
    _, copies = of_auth(settings, in_force.api_keys_file.parent)
    for copy in (given := of_tls(settings, in_force.api_keys_file.parent)[1]):
        if not os.access(copy.source, os.R_OK):
            raise Misconfigured(
                f"{copy.source} cannot be read ([gateway] tls_certificate_file and tls_key_file)"
            )
    copies += given
    limits = (settings.admission.limits_file or state / "limits.toml").expanduser().absolute()
    _check_limits(limits, named=settings.admission.limits_file is not None)
    return (Copy(keys, in_force.api_keys_file), Copy(limits, in_force.limits_file), *copies)


def _check_limits(path: Path, *, named: bool) -> None:
    """A start with a limits file that cannot be read would be one without limits."""
    try:
        parse_limits(path.read_bytes())
    except FileNotFoundError:
        if named:
            raise Misconfigured(f"there is no limits file {path} ([admission] limits_file)") from None
    except OSError as error:
        raise Misconfigured(f"the limits file {path} cannot be read: {error.strerror}") from error
    except Malformed as error:
        raise Misconfigured(f"{path}: {error.message}; see `rlu limits check`") from error


def _check_user(settings: Settings, role: str) -> None:
    wanted = plan.user_ids(settings, os.geteuid())[role]
    if wanted != os.geteuid():
        raise Misconfigured(
            f"[lock.uids] {role} = {wanted}, and this is user {os.geteuid()}; start this container as that user"
        )


def _check_state(state: Path, settings: Settings, role: str | None) -> None:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"the state directory {state} cannot be made ({error.strerror}); set state_dir (RLU_STATE_DIR)"
        ) from error
    uids = settings.lock.uids
    if uids is None or role is not None:
        if not os.access(state, os.R_OK | os.W_OK | os.X_OK):
            raise Unavailable(
                f"the state directory {state} is not ours to write; set state_dir (RLU_STATE_DIR)"
            )
        return
    if os.geteuid() != 0:
        raise LockRefused(
            "lock.uids needs a supervisor that is root; start as root, or leave lock.uids out (the statement says uid_shared)"
        )
    if state.stat().st_uid != uids.attestor:
        raise Misconfigured(
            f"the state directory belongs to user {state.stat().st_uid}: chown -R {uids.attestor}:{uids.attestor} {state}"
        )


def interpreter(configured: str) -> Path:
    if not configured:
        return Path(sys.executable)
    found = shutil.which(configured)
    if found is None:
        raise Misconfigured(f"[engine] python = {configured}: no such program")
    return Path(found).absolute()


def check_tpm(settings: Settings) -> None:
    device = plan.tpm_device(settings.attestation.tcti)
    if device is None or not plan.uses_tpm(settings):
        return
    if not device.exists():
        raise Unavailable(
            f"no TPM at {device}; enable it in the firmware or the virtual machine, name another in [attestation] tcti, or try `rlu demo`, "
            "which uses an emulated one"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise Unavailable(f"{device} is not ours to use; add this user to its group (usually tss)")


def accelerator_groups(devices: Path) -> tuple[int, ...]:
    """Groups, but root's, of the device nodes that an engine opens."""
    nodes = (path for pattern in ("kfd", "dri/renderD*", "nvidia*") for path in devices.glob(pattern))
    return tuple(sorted({node.stat().st_gid for node in nodes} - {0}))


def _group(device: Path | None) -> int | None:
    return device.stat().st_gid if device is not None and device.exists() else None


def _free_port(host: str) -> int:
    with socket.create_server((host, 0), family=_family(host)) as listener:
        return int(listener.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def port_is_free(host: str, port: int) -> bool:
    """Whether the gateway could listen there now."""
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except OSError:
        return False
    return True


def check_port(settings: Settings) -> None:
    host, port = settings.gateway.host, settings.gateway.port
    if not port_is_free(host, port):
        raise Unavailable(
            f"cannot listen on {host}:{port}; choose another port with --port ([gateway] port, RLU_GATEWAY__PORT)"
        )
