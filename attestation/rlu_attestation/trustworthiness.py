"""A verdict as trustworthiness vectors (AR4SI, draft-ietf-rats-ar4si).

How steps and claims become a vector is written down in DESIGN.md, "EAR". The rules behind it:

- A trustworthiness claim is *affirming* only when every step it rests on passed and at least one was made. What was waived is a warning
  with a reason of ours (-33); what was not made, or is only the server's word, is no claim (0).
- `file-system`, `storage-opaque` and `sourced-data` are left out unless hardware or a measurement speaks for them; no evidence does today.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from rlu_attestation.verdict import LEFT_OPEN, Blame, Claim, Outcome, Source, Step, Verdict

NONE, AFFIRMING, WARNING, CONTRAINDICATED = "none", "affirming", "warning", "contraindicated"
TIERS = (NONE, AFFIRMING, WARNING, CONTRAINDICATED)
"""From the least to the most severe, as AR4SI numbers them."""

NO_CLAIM, UNPARSED, GENUINE, WAIVED = 0, 1, 2, -33
APPROVED_BOOT, VULNERABLE, UNRECOGNISED_OBJECTS = 3, 32, 33
CONTRAINDICATED_96, UNRECOGNISED, CRYPTOGRAPHY = 96, 97, 99

_NOT_MADE = frozenset({"absent", "missing", "none", "plaintext", "silent", "unknown", "unset"})
_UNKNOWN_TO_US = frozenset({"unknown", "unknown_issuer"})
_SEVERITY = (
    CRYPTOGRAPHY,
    UNRECOGNISED,
    CONTRAINDICATED_96,
    UNRECOGNISED_OBJECTS,
    VULNERABLE,
    WAIVED,
    UNPARSED,
    NO_CLAIM,
)
_HARDWARE_KINDS = ("azure-vtpm", "gcp-vtpm", "nitro", "nitrotpm", "sev-snp", "tdx")
_TEE_KINDS = ("azure-vtpm", "sev-snp", "tdx")
_GPU = ("gpu", "nvidia")


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a trustworthiness claim rests on.

    Attributes:
        steps: ids, or first parts of ids.
        affirms: the value when all passed.
        mismatch: the value when the policy refuses what was found.
        decisive: of `steps`, those of which one must have passed, on more than "any"; empty: whichever.
        without: last parts of ids that do not belong.
    """

    steps: tuple[str, ...]
    affirms: int = GENUINE
    mismatch: int = CONTRAINDICATED_96
    decisive: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


_BOUND = ("root", "chain", "signature", "binding")
_INSTANCE: Mapping[str, _Rest] = MappingProxyType(
    {
        "instance-identity": _Rest(
            (
                *("statement", "evidence", "ek", "ak", "key", "quote.binding", "policy.key"),
                *(f"{kind}.{step}" for kind in _HARDWARE_KINDS for step in _BOUND),
            ),
            decisive=("statement.signature",),
        ),
        "hardware": _Rest(
            (
                *(
                    "ek",
                    "ak.certificate",
                    "ak.attributes",
                    "quote.signature",
                    "quote.clock",
                    *_HARDWARE_KINDS,
                ),
                *("policy.tpm", "policy.tee", "policy.tcb"),
            ),
            decisive=("quote.signature", *(f"{kind}.signature" for kind in _HARDWARE_KINDS)),
            without=("binding",),
        ),
        "executables": _Rest(
            (
                *("quote.pcrs", "quote.eventlog", "quote.ima", "tdx.event_log"),
                *("policy.pcrs", "policy.measurements"),
            ),
            affirms=APPROVED_BOOT,
            mismatch=UNRECOGNISED_OBJECTS,
            decisive=("policy.pcrs", "policy.measurements"),
        ),
    }
)
_GPUS: Mapping[str, _Rest] = MappingProxyType(
    {"hardware": _Rest((*_GPU, "policy.gpu"), decisive=("nvidia.signature",), without=("binding",))}
)


def tier(value: int) -> str:
    """The tier of a trustworthiness claim (AR4SI, "Enumeration Encoding")."""
    if -1 <= value <= 1:
        return NONE
    if -32 <= value <= 31:
        return AFFIRMING
    return WARNING if -96 <= value <= 95 else CONTRAINDICATED


def vectors(verdict: Verdict, kind: str) -> Iterable[tuple[str, dict[str, int]]]:
    """The vector of each submodule, by its label; `kind` as `ear.ear` takes it."""
    if kind == "nvidia":
        yield kind, _vector(verdict, _GPUS)
        return
    vector = _vector(verdict, _INSTANCE)
    if kind:  # evidence alone names no instance that could be recognised
        vector.pop("instance-identity", None)
    vector |= _runtime(verdict) | _configuration(verdict)
    if verdict.emulated and "hardware" in vector:
        vector["hardware"] = _worst((vector["hardware"], WAIVED))
    if tier(vector.get("hardware", NO_CLAIM)) == AFFIRMING:
        vector["hardware"] = _judged(verdict)
    yield kind or "instance", vector or {"hardware": NO_CLAIM}
    if not kind and any(step.outcome is not Outcome.NOT_APPLICABLE for step in _of(verdict, _GPU)):
        yield "gpu", _vector(verdict, _GPUS) or {"hardware": NO_CLAIM}


def _vector(verdict: Verdict, rests: Mapping[str, _Rest]) -> dict[str, int]:
    values = ((name, _value(verdict, rest)) for name, rest in rests.items())
    return {name: value for name, value in values if value is not None}


def _value(verdict: Verdict, rest: _Rest) -> int | None:
    """One claim; None: nothing that it rests on was looked at."""
    made = [
        step
        for step in _of(verdict, rest.steps)
        if step.outcome is not Outcome.NOT_APPLICABLE and step.id.rpartition(".")[2] not in rest.without
    ]
    if not made:
        return None
    bad = [_bad(step, rest) for step in made if step.outcome is not Outcome.PASSED]
    if bad:
        return _worst(bad)
    decisive = (
        made
        if not rest.decisive
        else [s for s in made if _is_of(s, rest.decisive) and s.detail != "any" and LEFT_OPEN not in s.detail]
    )
    return rest.affirms if decisive else NO_CLAIM


def _bad(step: Step, rest: _Rest) -> int:
    cause = step.code.rpartition(".")[2]
    if step.outcome is Outcome.WAIVED:
        return WAIVED
    if step.blame in (Blame.MALFORMED, Blame.UNSUPPORTED):
        return UNPARSED
    if step.blame is Blame.DEPENDENCY or (step.blame is Blame.REFUSED and cause in _NOT_MADE):
        return NO_CLAIM
    if step.blame is Blame.REFUSED:
        return rest.mismatch
    if cause in _UNKNOWN_TO_US:
        return UNRECOGNISED
    return CONTRAINDICATED_96 if cause == "revoked" else CRYPTOGRAPHY


def _runtime(verdict: Verdict) -> dict[str, int]:
    """`runtime-opaque`, of encrypted TEEs only: a TPM says nothing about memory, nor does a Nitro document about its encryption."""
    signatures = [f"{kind}.signature" for kind in _TEE_KINDS]
    steps = _of(verdict, signatures)
    debug = next((claim for claim in verdict.claims if claim.name == "debug"), None)
    if not steps:
        return {}
    if _failed(verdict, ("policy.debug",)) == "mismatch" or (debug is not None and debug.value == "enabled"):
        return {"runtime-opaque": CONTRAINDICATED_96}
    known = debug is not None and debug.source is Source.HARDWARE
    passed = all(step.outcome is Outcome.PASSED for step in (*steps, *_of(verdict, ("policy.tee",))))
    if not (known and passed):
        return {"runtime-opaque": NO_CLAIM}
    accepted = any(step.detail for step in _of(verdict, ("policy.tee",)))
    return {"runtime-opaque": WAIVED if accepted else GENUINE}


def _configuration(verdict: Verdict) -> dict[str, int]:
    """`configuration`, as far as hardware or a measurement speaks for it: debug state, verified boot, lock, engine and gateway."""
    rules = ("policy.debug", "policy.tee", "policy.boot", "policy.lock", "policy.engine", "policy.gateway")
    rest = _Rest(rules)
    value = _value(verdict, rest)
    if _debugged(verdict):
        return {"configuration": CONTRAINDICATED_96}
    if value is None or tier(value) != AFFIRMING:
        return {} if value is None else {"configuration": value}
    of_interest = {"debug", "verified_boot", "lock", "engine", "gateway"}
    sources = [claim.source for claim in verdict.claims if claim.name in of_interest]
    known = bool(sources) and all(source.at_least(Source.MEASURED) for source in sources)
    return {"configuration": GENUINE if known else NO_CLAIM}


def _debugged(verdict: Verdict) -> bool:
    """Whether the hardware itself says that others may look into what runs."""
    return Claim("debug", "enabled", Source.HARDWARE) in verdict.claims


def _judged(verdict: Verdict) -> int:
    """`hardware` when all its steps passed: a virtual TPM, which only its cloud vouches for, is none; known vulnerabilities are told."""
    spoken = {claim.source for claim in verdict.claims if claim.name in ("key", "evidence")}
    if Source.HARDWARE not in spoken:
        return NO_CLAIM
    return VULNERABLE if _vulnerable(verdict) else GENUINE


def _vulnerable(verdict: Verdict) -> bool:
    """Whether the vendor's word on the TCB, which the policy accepts, is that something is known against it."""
    words = [word for claim in verdict.claims if claim.name == "tcb" for word in claim.value.split()]
    return "advisories" in words or any(
        "Needed" in word or word.startswith(("OutOfDate", "TDRelaunch")) for word in words
    )


def _worst(values: Iterable[int]) -> int:
    return min(values, key=lambda value: _SEVERITY.index(value) if value in _SEVERITY else len(_SEVERITY))


def _failed(verdict: Verdict, ids: Sequence[str]) -> str:
    return next((s.code.rpartition(".")[2] for s in _of(verdict, ids) if s.outcome is Outcome.FAILED), "")


def _of(verdict: Verdict, ids: Sequence[str]) -> tuple[Step, ...]:
    return tuple(step for step in verdict.steps if _is_of(step, ids))


def _is_of(step: Step, ids: Sequence[str]) -> bool:
    return any(step.id == name or step.id.startswith(f"{name}.") for name in ids)
