"""Looking at a deployment on this machine: files, the runtime directory, the gateway's port. Nothing is changed.

Nobody connects to the attestor's socket: it takes its gateway and nobody else, and tells of others as of an intrusion.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rlu_attestation import x509
from rlu_attestation.collateral import listing
from rlu_attestation.collateral.store import SUFFIXES
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_server import keyring
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.tpm import documents
from rlu_server.core import apikeys
from rlu_server.core.auth import certificates, jwks
from rlu_server.core.limits import rules
from rlu_server.doctor.seen import Gateway, Posture, Problem, Runtime, Seen, State
from rlu_server.licence.place import place_of
from rlu_server.licence.standing import judge as judge_licence
from rlu_server.settings import Settings, SettingsError, load
from rlu_server.supervisor import rehearsal
from rlu_server.supervisor import runtime as runtimes
from rlu_server.supervisor.plan import CONFIG

READYZ_S = 5.0
MAX_FILE = 8 << 20
INTEL = "collateral.json"


def look(config: Path | None, now: int) -> tuple[Seen, Settings | None]:
    """Everything that can be seen without asking the attestor, and the settings in force."""
    try:
        settings = load(config)
    except SettingsError as error:
        return Seen(now=now, settings=Problem("serve.settings", str(error))), None
    place = _runtime_of(settings)
    in_force = settings if place is None else _in_force(place, settings)
    return (
        Seen(
            now=now,
            unsafe=tuple(_unsafe(settings)),
            state=_state(settings, now),
            files=tuple(_files(settings, now)),
            runtime=_runtime(settings, place),
            gateway=_gateway(in_force, place),
            refusals=() if place is not None else _refusals(settings),
        ),
        in_force,
    )


def _refusals(settings: Settings) -> tuple[Problem, ...]:
    return tuple(Problem(error.code, str(error)) for error in rehearsal.refusals(settings))


def _unsafe(settings: Settings) -> Iterator[str]:
    if settings.attestation.insecure_software_key:
        yield "[attestation] insecure_software_key"
    if settings.gateway.insecure_plain_http:
        yield "[gateway] insecure_plain_http"
    if settings.model.signature != "required":
        yield f'[model] signature = "{settings.model.signature}"'
    if settings.lock.unsafe_allow_swap:
        yield "[lock] unsafe_allow_swap"


def _state(settings: Settings, now: int) -> State:
    directory = settings.state_dir
    if not os.path.isdir(directory):
        return State(present=False)
    free = shutil.disk_usage(directory).free
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return State(present=True, usable=False, free=free)
    problems: list[Problem] = []
    running, due, until = None, None, None
    with _noted(problems):
        running = keyring.running(settings)
    with _noted(problems):
        due = next((key.due for key in keyring.listed(settings, now) if key.state == "in use"), None)
    hardware = settings.attestation.holder == "tpm2"
    if hardware:
        with _noted(problems):
            until = _enrolled_until(StateFiles(directory).enrolment)
    return State(
        present=True,
        usable=True,
        free=free,
        running=running,
        hardware=hardware,
        enrolled_until=until,
        due=due,
        collateral_over=_over(settings.collateral_dir, datetime.fromtimestamp(now, timezone.utc)),
        problems=tuple(problems),
    )


@contextlib.contextmanager
def _noted(problems: list[Problem]) -> Iterator[None]:
    try:
        yield
    except RluError as error:
        problems.append(Problem(error.code, error.message))
    except OSError as error:
        problems.append(Problem("enrolment.unreadable", f"{error.filename}: {error.strerror}"))


def _enrolled_until(path: Path) -> int | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    found = documents.parse(data, documents.Enrolment)
    return int(x509.parse(unb64u(found.ak_certificate)).not_after.timestamp())


def _over(directory: Path, at: datetime) -> int:
    """Pieces that the attestor staples although they answer no more; as far as they may be read."""
    count = 0
    for path in sorted(directory.glob("*/*")) if os.access(directory, os.R_OK | os.X_OK) else ():
        kind = next((k for k, suffix in SUFFIXES.items() if path.suffix == suffix), None)
        if path.suffix == ".json" and path.name != INTEL:
            continue
        if kind is not None and os.path.isfile(path) and os.access(path, os.R_OK):
            states = [one.state for one in listing.describe([(kind, _bounded(path))], at)]
            count += states == [listing.OVER]
    return count


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE)


def _files(settings: Settings, now: int) -> Iterator[tuple[str, Problem | None]]:
    """Files that are read while the server runs; a damaged one leaves the one before in force, until a restart."""
    yield (
        "API keys",
        _checked(settings.api_keys_file, "apikeys.file.access", apikeys.parse_file, needed=False),
    )
    if os.path.exists(settings.limits_file) or settings.admission.limits_file is not None:
        yield "limits", _checked(settings.limits_file, "limits.file.access", rules.parse_file)
    for issuer in settings.auth.issuers:
        if issuer.jwks_file is not None:
            yield f"key set of {issuer.name}", _checked(issuer.jwks_file, "auth.file", jwks.parse)
    if settings.auth.certificates.ca_file is not None:
        yield (
            "CAs of clients",
            _checked(settings.auth.certificates.ca_file, "auth.file", certificates.authorities),
        )
    if settings.licence.file is not None:
        yield "licence", _licence(settings, now)
    if settings.model.path and "/" in settings.model.path and Path(settings.model.path).is_absolute():
        yield "model", _model(Path(settings.model.path), signed=settings.model.signature == "required")


def _checked(
    path: Path, code: str, parse: Callable[[bytes], object], *, needed: bool = True
) -> Problem | None:
    try:
        parse(path.read_bytes())
    except FileNotFoundError:
        return Problem(code, f"{path} is not there") if needed else None
    except OSError as error:
        return Problem(code, f"{path}: {error.strerror}")
    except RluError as error:
        return Problem(error.code, f"{path}: {error.message}")
    return None


def _licence(settings: Settings, now: int) -> Problem | None:
    place = place_of(settings)
    assert place is not None
    try:
        found = place.find()
    except RluError as error:
        return Problem(error.code, error.message)
    refusal = judge_licence(found.licence, found.answer, now).refusal
    return None if refusal is None else Problem(refusal, "by this machine's clock, new sessions are refused")


def _model(directory: Path, *, signed: bool) -> Problem | None:
    """Its presence only; whether it is the one that was signed takes reading all of it (`rlu model verify`)."""
    if not os.path.isdir(directory):
        return Problem("model.directory", f"{directory} is no directory, or may not be seen")
    try:
        if not any(directory.iterdir()):
            return Problem("model.empty", f"{directory} holds no files")
    except OSError as error:
        return Problem("model.unreadable", f"{directory}: {error.strerror}")
    if signed and not os.path.isfile(directory / "model.sig"):
        return Problem("model.signature.absent", f"there is no {directory / 'model.sig'}")
    return None


def _runtime_of(settings: Settings) -> Path | None:
    """The runtime directory of the server that has this state directory."""
    if settings.runtime_dir is not None:
        return settings.runtime_dir if any(settings.runtime_dir.glob("*facts")) else None
    for path in runtimes.in_use():
        with contextlib.suppress(SettingsError):
            if load(path / "facts" / CONFIG, {}).state_dir == settings.state_dir.absolute():
                return path
    return None


def _in_force(place: Path, settings: Settings) -> Settings:
    with contextlib.suppress(SettingsError):
        return load(place / "facts" / CONFIG, {})
    return settings


def _runtime(settings: Settings, place: Path | None) -> Runtime:
    if place is None:
        return Runtime(found=False)
    sockets = frozenset(
        path.relative_to(place).as_posix() for path in place.glob("*/*.sock") if path.is_socket()
    )
    postures: dict[str, Posture] = {}
    for process in ("attestor", "engine"):
        for facts in ("facts", "engine-facts", "attestor-facts"):
            found = _object(place / facts / f"{process}.json")
            if found:
                postures[process] = {
                    name: one for name, one in found.items() if isinstance(one, (bool, int, str))
                }
    return Runtime(
        found=True,
        sockets=sockets,
        engines=tuple(name for name, _ in settings.fleet() if (place / name).is_dir()),
        postures=postures,
        facts=_object(place / "facts" / "instance.json"),
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _gateway(settings: Settings, place: Path | None) -> Gateway | None:
    """What /readyz says, on this machine. None: where the server listens is not known."""
    port = settings.gateway.port
    if not port:
        return None
    host = settings.gateway.host
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked, not listened on
    connection = _connection(settings, local, port, place)
    try:
        connection.request("GET", "/readyz")
        with connection.getresponse() as response:
            data = response.read(MAX_FILE)
    except ConnectionRefusedError:
        return Gateway(refused=True)
    except ssl.SSLError as error:
        return Gateway(failure=f"TLS: {error.reason}")
    except (OSError, http.client.HTTPException) as error:
        return Gateway(failure=type(error).__name__)
    finally:
        connection.close()
    return read_readiness(data)


def _connection(settings: Settings, host: str, port: int, place: Path | None) -> http.client.HTTPConnection:
    if settings.gateway.insecure_plain_http:
        return http.client.HTTPConnection(host, port, timeout=READYZ_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing secret is sent, and codes are read; who answers is what `rlu verify` is for.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    certificate = None if place is None else place / "gateway" / "gateway.crt"
    if certificate is not None and os.access(certificate, os.R_OK):
        context.load_verify_locations(certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return http.client.HTTPSConnection(host, port, timeout=READYZ_S, context=context)


def read_readiness(data: bytes) -> Gateway:
    """The answer of /readyz, as far as it is one."""
    try:
        value: Mapping[str, object] = json.loads(data)
        reasons = value.get("reasons") or ()
        assert isinstance(reasons, (list, tuple))
        codes = tuple(str(one["code"]) for one in reasons)
        return Gateway(ready=value["ready"] is True, reasons=codes)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        return Gateway(failure="what answers there is no gateway of ours")
