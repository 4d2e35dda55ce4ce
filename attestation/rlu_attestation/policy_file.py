"""Reads a policy from TOML. Unknown keys, wrong types and unreadable certificates refuse, with the key named.

The only input besides the bytes is `read_file`, through which certificate files are reached, so that the caller decides where those may be.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping

from rlu_attestation import policy_hardware
from rlu_attestation.catalogue import CLAIMS, COVERAGE, WAIVABLE
from rlu_attestation.channel import TLS_ORIGINS
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.instance import DEBUG_STATES, POSTURE_ROLES
from rlu_attestation.mentions import CANARY_RESULTS
from rlu_attestation.policy import ACCEPT, Accepted, Bound, CanaryRule, Policy, PolicyError
from rlu_attestation.policy_hardware import HAZARDS
from rlu_attestation.policy_revocations import revocations
from rlu_attestation.policy_table import ReadFile, Table, certificates, digest
from rlu_attestation.policy_witnesses import witnesses, witnesses_required
from rlu_attestation.profiles import BUILT_IN
from rlu_attestation.verdict import Source

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10 only
    import tomli as tomllib

IN_EVIDENCE = ("key", "tpm", "pcrs", "tee", "tcb", "debug")
"""Claims that evidence itself can hold; all others are at best measured."""
UEID_SIZE, UEID_TYPE = 33, 1
VERSION = 1
MAX_POLICY = 1024 * 1024
MAX_SKEW = 3600
"""Clocks that differ by more are wrong, and a check of time with such an allowance is none."""


def parse(data: bytes, read_file: ReadFile) -> Policy:
    """Read a policy.

    Args:
        data: the TOML file's bytes.
        read_file: gives the content of a file that the policy names; may raise `OSError`.

    Raises:
        PolicyError: `policy.encoding`, `policy.unknown_key`, `policy.value`, `policy.certificate`, `policy.references`, `policy.key`,
            `policy.revocations` and a cause; the message names the key.
    """
    if len(data) > MAX_POLICY:
        raise PolicyError("policy.encoding", f"a policy has at most {MAX_POLICY} bytes")
    try:
        value = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PolicyError("policy.encoding", f"not TOML in UTF-8: {error}{_line(data, error)}") from error
    top = Table(value, "")
    if top.take("version", None) != VERSION:
        raise PolicyError("policy.value", f"version must be {VERSION}")
    trust, times, channel = top.table("trust"), top.table("time"), top.table("channel")
    accept, sources, tee = top.table("accept"), top.table("minimum_source"), top.table("tee")
    files: dict[str, bytes] = {}

    def read(name: str) -> bytes:
        files[name] = read_file(name)
        return files[name]

    pcrs, measurements = policy_hardware.reference_values(top, read)
    trusted = witnesses(trust)
    policy = Policy(
        ek_roots=certificates(trust, "ek_roots", read),
        registrars=certificates(trust, "registrars", read),
        unsafe_accept_emulated_tpm=trust.flag("unsafe_accept_emulated_tpm"),
        unsafe_accept_unverified_boot=trust.flag("unsafe_accept_unverified_boot"),
        max_statement_age_s=times.seconds("max_statement_age_s", 3600),
        max_evidence_age_s=times.seconds("max_evidence_age_s", 3600),
        max_revocation_age_s=times.seconds("max_revocation_age_s", 7 * 86400),
        max_session_age_s=times.seconds("max_session_age_s", 86400),
        max_key_age_s=times.seconds("max_key_age_s", 100 * 86400),
        clock_skew_s=times.whole("clock_skew_s", 60, 0, MAX_SKEW),
        accept={rule: _accepted(accept, rule) for rule in ACCEPT},
        pcrs=pcrs,
        measurements=measurements,
        tcb=policy_hardware.tcb(top),
        gpus=policy_hardware.gpus(top),
        profiles=policy_hardware.profiles(top),
        roots=policy_hardware.roots(trust, read),
        revoked_keys=frozenset(_keys(trust, "revoked_keys")),
        revocations=revocations(trust, read),
        witnesses=trusted,
        witnesses_required=witnesses_required(times, trusted),
        hazards=frozenset(tee.choices("accept", HAZARDS)),
        channel_origins=frozenset(channel.choices("origins", TLS_ORIGINS)),
        terminators=frozenset(
            digest(channel, "terminator_spki_sha256", text)
            for text in channel.strings("terminator_spki_sha256")
        ),
        lock=_lock(top),
        canary=_canary(top),
        model_signers=_model_signers(top),
        default_source=sources.source("default", Source.ENDORSED),
        minimum_source={name: _minimum(sources, name) for name in CLAIMS if name in sources},
        waivers=_waivers(top),
        require=frozenset(top.choices("require", COVERAGE)) | {"instance"},
        digest=digest_of(data, files),
    )
    for table in (top, trust, times, channel, accept, sources, tee):
        table.end()
    _known_profiles(policy)
    return policy


def digest_of(data: bytes, files: Mapping[str, bytes]) -> bytes:
    """What pins a policy: SHA-256 of the file if it names no others, else over it and them, each with its name and lengths."""
    if not files:
        return hashlib.sha256(data).digest()
    whole = hashlib.sha256(b"rlu/policy/v1")
    for name, content in (("", data), *sorted(files.items())):
        for part in (name.encode("utf-8"), content):
            whole.update(len(part).to_bytes(8, "big") + part)
    return whole.digest()


def _accepted(accept: Table, rule: str) -> Accepted:
    values = accept.accepted(rule)
    if values is None:
        return None
    if rule == "debug_states" and not values <= set(DEBUG_STATES):
        raise accept.wrong(rule, f"may hold {', '.join(DEBUG_STATES)}")
    if rule in ("models", "engine_arguments", "gateway_images"):
        for text in values:
            digest(accept, rule, text)
    if rule in ("engines", "gateways") and not all(0 < text.find("/") < len(text) - 1 for text in values):
        raise accept.wrong(rule, "must hold name/version, such as vllm/0.32.0")
    return values


def _known_profiles(policy: Policy) -> None:
    """A profile that nobody describes can never be accepted."""
    known = {*BUILT_IN, *policy.profiles}
    unknown = sorted((policy.accept["hardware_profiles"] or frozenset()) - known)
    if unknown:
        raise PolicyError(
            "policy.value",
            f"accept.hardware_profiles holds {', '.join(unknown)}, which is no profile: "
            f"allowed are {', '.join(sorted(known))}, and those that [profiles] describes",
        )


def _canary(top: Table) -> CanaryRule | None:
    if "canary" not in top:
        return None
    with_rule = top.table("canary")
    days = with_rule.whole("max_age_days", 30, 1, 3650)
    results = with_rule.choices("results", CANARY_RESULTS) if "results" in with_rule else ("clean",)
    with_rule.end()
    return CanaryRule(days * 86400, frozenset(results))


def _model_signers(top: Table) -> frozenset[str] | None:
    if "model" not in top:
        return None
    with_rule = top.table("model")
    signers = with_rule.strings("signers")
    with_rule.end()
    for text in signers:
        digest(with_rule, "signers", text)
    return frozenset(signers)


def _keys(trust: Table, rule: str) -> tuple[str, ...]:
    found = trust.strings(rule)
    for text in found:
        try:
            raw = unb64u(text)
        except RluError:
            raw = b""
        if len(raw) != UEID_SIZE or raw[0] != UEID_TYPE:
            raise trust.wrong(rule, f"holds {text}, which is no ueid of an instance: `rlu verify` shows it")
    return found


def _minimum(sources: Table, name: str) -> Source:
    found = sources.source(name, Source.ASSERTED)
    if found is Source.HARDWARE and name not in IN_EVIDENCE:
        raise sources.wrong(
            name, f"can never be known by hardware, only {', '.join(IN_EVIDENCE)}: at best it is measured"
        )
    return found


def _line(data: bytes, error: Exception) -> str:
    """The line at fault, since the parser names only its number."""
    lines = data.decode("utf-8", "replace").splitlines()
    found = re.search(r"at line (\d+)", str(error))
    number = int(found.group(1)) if found else len(lines)
    ended = found or "end of document" in str(error)
    if not ended or not 0 < number <= len(lines):
        return ""
    return f": {lines[number - 1].strip()[:80]}"


def _lock(top: Table) -> Mapping[str, Mapping[str, Bound] | None]:
    found: dict[str, Mapping[str, Bound] | None] = {}
    lock = top.table("lock")
    for role in POSTURE_ROLES:
        if lock.is_any(role):
            found[role] = None
        elif role in lock:
            posture = lock.table(role)
            found[role] = {key: _bound(posture, key) for key in posture.names()}
            if not found[role]:
                raise lock.wrong(role, 'must name what the process measured of its lock, or be "any"')
    lock.end()
    return found


def _bound(posture: Table, key: str) -> Bound:
    value = posture.take(key, None)
    if isinstance(value, dict):
        limits = Table(value, f"{posture.name}.{key}")
        bound = Bound(at_least=limits.limit("at_least"), at_most=limits.limit("at_most"))
        limits.end()
        if bound.at_least is not None and bound.at_most is not None and bound.at_least > bound.at_most:
            raise posture.wrong(
                key, f"accepts nothing: at_least {bound.at_least} is above at_most {bound.at_most}"
            )
        if bound != Bound():
            return bound
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, (bool, int, str)) for item in values):
        raise posture.wrong(
            key, "must be a boolean, integer or string, an array of them, or {at_least, at_most}"
        )
    return Bound(values=tuple(values))


def _waivers(top: Table) -> Mapping[str, str]:
    entries = top.take("waive", [])
    if not isinstance(entries, list):
        raise top.wrong("waive", "must be an array of tables")
    found: dict[str, str] = {}
    for entry in entries:
        table = Table(entry, "waive")
        step, reason = table.take("step", None), table.take("reason", None)
        table.end()
        if step not in WAIVABLE:
            raise table.wrong(
                "step", f"must be one of {', '.join(WAIVABLE)}: only checks that cannot be made are waived"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise table.wrong("reason", "must say why")
        if step in found:
            raise table.wrong("step", f"waives {step} twice")
        found[step] = reason.strip()
    return found
