"""Every setting of the server, in one place.

Sources, strongest first: explicit arguments, environment, `rlu.toml`, the defaults below. A setting `x` of section `s` is `[s] x = …` in
the file and `RLU_S__X` in the environment; the deployment's historical names (`RLU_ATTESTATION_KEY_PATH`, `RLU_DATA_RESIDENCY_REGION`,
`RLU_TELEMETRY_OPT_IN`, `RLU_MODEL_UPDATE_SCHEDULE`) are accepted too. Unknown keys and unknown `RLU_…` variables refuse.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from rlu_server.sections import Section as Section
from rlu_server.settings_admission import Admission
from rlu_server.settings_auth import Auth
from rlu_server.settings_boundary import Licence, Telemetry, Update
from rlu_server.settings_group import Group
from rlu_server.settings_observability import Metrics, Tracing
from rlu_server.settings_weights import Weights

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10 only
    import tomli as tomllib


class SettingsError(Exception):
    """The configuration was refused; the message names every key that was wrong and why."""


class Deployment(Section):
    """What the operator declares about this deployment; stated, and endorsed where the registrar agrees."""

    region: Annotated[str, Field(min_length=1, max_length=128)] = "unspecified"
    boundary: Annotated[str, Field(min_length=1, max_length=128)] = "unspecified"
    site: Annotated[str, Field(min_length=1, max_length=128)] = "unspecified"
    hardware_profile: Annotated[str, Field(min_length=1, max_length=128)] = "unspecified"


class Gpu(Section):
    """The GPUs that the instance states."""

    vendor: Literal["none", "nvidia", "amd"] = "none"
    evidence: Literal["none", "nvidia"] = "none"
    """`nvidia`: reports of every GPU, and of the NVSwitches that wire them, beside the statement; needs confidential computing to be on."""

    @model_validator(mode="after")
    def _check(self) -> Gpu:
        if self.evidence == "nvidia" and self.vendor != "nvidia":
            raise ValueError('evidence = "nvidia" needs vendor = "nvidia"')
        return self


class Attestation(Section):
    """The hardware that holds the key."""

    key: Literal["tpm2", "sev-snp", "tdx", "nitro", "nitrotpm", "gcp-vtpm", "azure-vtpm", "none"] = "tpm2"
    """What holds the key, and the kind of evidence that speaks for it. `none` needs `insecure_software_key`."""
    collateral_dir: Path | None = None
    """Certificates, revocation lists and reference values, a directory for each kind. None: below the state directory."""
    gpu: Gpu = Gpu()
    tcti: str = "device:/dev/tpmrm0"
    """TPM interface in tpm2-tss's TCTI syntax, such as `device:/dev/tpmrm0` or `swtpm:host=127.0.0.1,port=2321`."""
    key_path: str = ""
    """TSS2 PRIVATE KEY file (made when absent), or a persistent handle such as `0x81000010`, after which rotation takes free ones. Empty:
    below the state directory."""
    pcrs: tuple[Annotated[int, Field(ge=0, le=23)], ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    """PCRs of the SHA-256 bank that are quoted, and that the key is bound to: to 10 not where the kernel's list goes beside the quote."""
    renew_s: Annotated[int, Field(ge=60, le=86400)] = 3600
    """How often the instance statement and its evidence are renewed, in seconds."""
    statement_ttl_s: Annotated[int, Field(ge=60, le=7 * 86400)] = 7200
    policy: Path | None = None
    """A verifier's policy (TOML) that the attestor appraises itself by. Drift from it stops new sessions and closes those that are open."""
    appraise_s: Annotated[int, Field(ge=5, le=86400)] = 60
    """How often it looks, in seconds; at its GPUs also without a policy."""
    rotate_days: Annotated[int, Field(ge=0, le=3650)] = 90
    """The instance key is rotated at this age, in days; 0: only when asked (`rlu keys rotate`)."""
    insecure_software_key: bool = False
    """Laptops only: a key in memory; every statement then says `"hardware": "none"`."""

    @model_validator(mode="after")
    def _check(self) -> Attestation:
        if self.key == "none" and not self.insecure_software_key:
            raise ValueError('key = "none" needs insecure_software_key = true')
        if self.insecure_software_key and self.key not in ("none", "tpm2"):
            raise ValueError(f'insecure_software_key = true contradicts key = "{self.key}"')
        return self

    @property
    def holder(self) -> str:
        """The kind of evidence that speaks for the key; `none` for a software key."""
        return "none" if self.insecure_software_key else self.key


class Gateway(Section):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8443
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that have the clients' connections. With more than one, another process holds what they share."""
    insecure_plain_http: bool = False
    hostnames: tuple[str, ...] = ("localhost", "127.0.0.1")
    """Names in the certificate that the gateway makes for its in-memory key."""
    tls_certificate_file: Path | None = None
    """Certificate chain (PEM) of a key that the operator provides. Watched. None: the key is born in the gateway's memory."""
    tls_key_file: Path | None = None
    """That key (PEM, no password). Statements say `provisioned`: whoever else has the file could pass for this gateway."""
    api_keys_file: Path | None = None
    """JSON file of hashed API keys (`rlu apikeys`). None: below the state directory."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 * 1024 * 1024
    max_header_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 64 * 1024
    max_connections: Annotated[int, Field(ge=1)] = 4096
    header_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    idle_timeout_s: Annotated[float, Field(gt=0)] = 75.0
    response_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Longest silence of the engine before an exchange is ended as `failed` or `partial`."""
    drain_timeout_s: Annotated[float, Field(ge=0)] = 30.0
    session_ttl_s: Annotated[int, Field(ge=1, le=7 * 86400)] = 8 * 3600
    session_idle_s: Annotated[int, Field(ge=1, le=7 * 86400)] = 3600
    max_sessions: Annotated[int, Field(ge=1)] = 100_000
    access_log: bool = False
    """An event for every request that was answered: route, status, ids, sizes, times."""
    receipts_per_session: Annotated[int, Field(ge=1)] = 1024
    """Receipts kept in memory for the session's principal; older ones are dropped, their leaves stay in the log."""

    @model_validator(mode="after")
    def _check(self) -> Gateway:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file belong together")
        return self


class Responses(Section):
    """Kept answers of the OpenAI Responses API (`store`, `previous_response_id`), in the gateway's memory."""

    store: Literal["on", "off"] = "on"
    """`on`: as OpenAI does, unless a request says `store: false`. `off`: nothing is kept, whatever a request says."""
    session_bytes: Annotated[int, Field(ge=64 << 10)] = 32 << 20
    """Most that is kept for one session."""
    tenant_bytes: Annotated[int, Field(ge=64 << 10)] = 128 << 20
    total_bytes: Annotated[int, Field(ge=64 << 10)] = 256 << 20
    """Most that is kept for all tenants together."""
    age_s: Annotated[int, Field(ge=1, le=7 * 86400)] = 8 * 3600
    """An answer that was not used for so many seconds is wiped; at the latest its session's end does that."""
    reserve_bytes: Annotated[int, Field(ge=1024)] = 64 << 10
    """Room set aside for an answer before it is asked for, besides the size of its request."""


Replicas = Annotated[int, Field(ge=1, le=16)]
Devices = tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(,[A-Za-z0-9_.-]+)*$")], ...]
MAX_ENGINES = 64


def _check_devices(devices: tuple[str, ...], replicas: int) -> None:
    if devices and len(devices) != replicas:
        raise ValueError(f"devices has {len(devices)} entries for {replicas} replicas; give each its own")


class Engine(Section):
    python: str = ""
    """Interpreter that has vLLM; empty: ours."""
    arguments: tuple[str, ...] = ()
    """Further vLLM arguments; those that would weaken the lock are refused."""
    environment: dict[str, str] = Field(default_factory=dict)
    ready_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    max_model_len: int | None = None
    kv_cache_gib: Annotated[int, Field(ge=1)] | None = None
    """CPU engine only: VLLM_CPU_KVCACHE_SPACE."""
    replicas: Replicas = 1
    """So many engines of this model."""
    devices: Devices = ()
    """For each replica the accelerators it sees, such as `"0,1"`; engines with devices of their own start side by side."""

    @model_validator(mode="after")
    def _check(self) -> Engine:
        _check_devices(self.devices, self.replicas)
        return self


class FurtherEngine(Section):
    """An engine with a model of its own, beside the one of `[model]` and `[engine]`, which holds the interpreter and time limits of all."""

    path: Annotated[str, Field(min_length=1)]
    """Directory of the model, or its hub id."""
    name: str = ""
    """The name clients use; empty: the directory's name."""
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    max_model_len: int | None = None
    kv_cache_gib: Annotated[int, Field(ge=1)] | None = None
    replicas: Replicas = 1
    devices: Devices = ()

    @model_validator(mode="after")
    def _check(self) -> FurtherEngine:
        _check_devices(self.devices, self.replicas)
        return self


class Model(Section):
    path: str = ""
    """Directory of the model, or its hub id."""
    name: str = ""
    """The name clients use; empty: the directory's name."""
    aliases: dict[str, str] = Field(default_factory=dict)
    """Other names for models that are served here: `"gpt-5-codex" = "qwen3-coder"`, or beginnings of names, `"claude-*"`."""
    list_aliases: bool = True
    """Whether `/v1/models` shows the aliases that are written out."""
    signature: Literal["required", "unsafe-optional"] = "required"
    """Of every model that is served; `unsafe-optional` serves unsigned and altered ones, and the statement says so."""
    signers: tuple[Path, ...] = ()
    """Files (PEM) of the public keys and root certificates whose signatures count."""
    update_schedule: Literal["daily", "weekly", "manual"] = "manual"
    """How often `rlu update run`, called by a timer, asks `[update] source`; `manual`: never."""


class Uids(Section):
    """User ids of the three processes. A supervisor that is root gives them these; with `rlu serve --role` each was started as its own."""

    attestor: Annotated[int, Field(ge=1, lt=2**32 - 1)]
    engine: Annotated[int, Field(ge=1, lt=2**32 - 1)]
    gateway: Annotated[int, Field(ge=1, lt=2**32 - 1)]


class Lock(Section):
    minimum_landlock_abi: Annotated[int, Field(ge=0)] = 1
    engine_network: Literal["namespace", "shared"] = "namespace"
    """`shared` is for pods, whose NetworkPolicy denies egress; the posture says which it is."""
    scratch_bytes: Annotated[int, Field(ge=1 << 20)] = 4 << 30
    uids: Uids | None = None
    """A user for each process. None: all run as the supervisor's user, and the posture says `uid_shared`."""
    unsafe_allow_swap: bool = False


class Log(Section):
    """The attestation log: its files, who follows it, and where it is exported to."""

    segment_leaves: Annotated[int, Field(ge=1024, le=1 << 24)] = 262_144
    """Entries in one segment of the log's files."""
    head_interval_s: Annotated[int, Field(ge=10, le=86400)] = 3600
    """A head is signed at least this often, in seconds, also when nothing happens, so that a log that stands still can be told."""
    export_limit: Annotated[int, Field(ge=0)] = 0
    """Entries that may wait for the export (`rlu log export`); 0: nothing depends on it."""
    export_when_behind: Literal["refuse", "gap"] = "refuse"
    """Beyond the limit: open no more sessions, or give the entries up and say so in the log."""
    exporter: Annotated[str, Field(pattern=r"^$|^[^/]+/[^/]+$")] = ""
    """Whose API key may export: `tenant/principal`. Empty: nobody's."""
    witnesses: tuple[Annotated[str, Field(max_length=512)], ...] = ()
    """Verifier keys of the witnesses whose cosignatures are taken and handed out (`rlu witness`)."""


class Settings(Section):
    state_dir: Path = Path("/var/lib/rlu")
    runtime_dir: Path | None = None
    """In-memory directory for sockets and scratch; None: made by `rlu serve`. With `--role` it must be named, the same for all."""
    deployment: Deployment = Deployment()
    attestation: Attestation = Attestation()
    gateway: Gateway = Gateway()
    auth: Auth = Auth()
    responses: Responses = Responses()
    admission: Admission = Admission()
    engine: Engine = Engine()
    model: Model = Model()
    further_engines: tuple[FurtherEngine, ...] = ()
    group: Group = Group()
    lock: Lock = Lock()
    log: Log = Log()
    metrics: Metrics = Metrics()
    tracing: Tracing = Tracing()
    licence: Licence = Licence()
    telemetry: Telemetry = Telemetry()
    weights: Weights = Weights()
    update: Update = Update()

    @model_validator(mode="after")
    def _check(self) -> Settings:
        engines = self.engine.replicas + sum(one.replicas for one in self.further_engines)
        if engines > MAX_ENGINES:
            raise ValueError(f"{engines} engines; one gateway has at most {MAX_ENGINES}")
        if self.group.nodes > 1 and (engines > 1 or self.lock.engine_network != "shared"):
            raise ValueError('group: several nodes run one engine, and need lock.engine_network = "shared"')
        if self.tracing.sample and not self.auth.relay:
            raise ValueError("tracing.sample: traces go to the relay; set auth.relay, or sample = 0")
        return self

    def fleet(self) -> tuple[tuple[str, str], ...]:
        """Every engine: the name of its directory below the runtime directory, the same at every start, and its model's name."""
        models = (
            (self.model.name or Path(self.model.path).name, self.engine.replicas),
            *((one.name or Path(one.path).name, one.replicas) for one in self.further_engines),
        )
        each = [name for name, replicas in models for _ in range(replicas)]
        return tuple((f"engine{number if number > 1 else ''}", name) for number, name in enumerate(each, 1))

    @property
    def key_path(self) -> str:
        """The attestation key's file or handle, with the default filled in."""
        return self.attestation.key_path or str(self.state_dir / "attestation" / "instance-key.tss2.pem")

    @property
    def collateral_dir(self) -> Path:
        """The collateral directory, with the default filled in."""
        return self.attestation.collateral_dir or self.state_dir / "collateral"

    @property
    def api_keys_file(self) -> Path:
        return self.gateway.api_keys_file or self.state_dir / "apikeys.json"

    @property
    def limits_file(self) -> Path:
        return self.admission.limits_file or self.state_dir / "limits.toml"

    @property
    def engine_priorities(self) -> bool:
        """Do all engines schedule by priority? An engine that does not may refuse a request that has one."""
        return all(
            map(
                _schedules_by_priority,
                (self.engine.arguments, *(one.arguments for one in self.further_engines)),
            )
        )


def _schedules_by_priority(arguments: tuple[str, ...]) -> bool:
    flag, value = "--scheduling-policy", "priority"
    return f"{flag}={value}" in arguments or (flag, value) in pairwise(arguments)


ALIASES = {
    "RLU_ATTESTATION_KEY_PATH": ("attestation", "key_path"),
    "RLU_DATA_RESIDENCY_REGION": ("deployment", "region"),
    "RLU_TELEMETRY_OPT_IN": ("telemetry", "opt_in"),
    "RLU_MODEL_UPDATE_SCHEDULE": ("model", "update_schedule"),
}
NOT_SETTINGS = frozenset(
    {"RLU_CONFIG", "RLU_VECTORS", "RLU_ALLOW_MISSING", "RLU_LOG_LEVEL", "RLU_TORCH_INDEX"}
)
"""Variables of ours that are read elsewhere (configuration file, tests, set-up)."""


def load(
    file: Path | None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge file, environment and overrides (nested mappings) into settings.

    Raises:
        SettingsError: the file cannot be read or parsed, or any key is unknown or out of range.
    """
    merged: dict[str, Any] = {}
    if file is not None:
        try:
            merged = tomllib.loads(file.read_text("utf-8"))
        except OSError as error:
            raise SettingsError(
                f"cannot read {file}: {error.strerror}; pass --config or set RLU_CONFIG"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file} is not TOML: {error}") from error
    for path, value in _from_environment(os.environ if environment is None else environment):
        _put(merged, path, value)
    _merge(merged, overrides or {})
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc']))}: {e['msg']}"
            for e in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("the configuration is refused:\n" + "\n".join(lines)) from error


def _from_environment(environment: Mapping[str, str]) -> list[tuple[tuple[str, ...], str]]:
    found: list[tuple[tuple[str, ...], str]] = []
    unknown: list[str] = []
    for name, value in sorted(environment.items()):
        if not name.startswith("RLU_") or name in NOT_SETTINGS:
            continue
        path = ALIASES.get(name) or tuple(name.removeprefix("RLU_").lower().split("__"))
        section = Settings.model_fields.get(path[0])
        if section is None:
            unknown.append(name)
        else:
            found.append((path, value))
    if unknown:
        raise SettingsError(
            f"unknown environment variables: {', '.join(unknown)}; see rlu.toml's reference for the names"
        )
    return found


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"{part} is not a section")
    tree[path[-1]] = value


def _merge(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value
