"""Drafts of policies, from evidence, for a person to review: `rlu policy init`.

`observe` runs every step that needs no policy and collects the values; `draft` writes them as a policy and a file of reference values that
accept exactly this evidence, as far as it is sound. Nothing here judges anything, and nothing is read or written: bytes in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from rlu_attestation import policy_file
from rlu_attestation.errors import Untrusted
from rlu_attestation.policy import Policy
from rlu_attestation.policy_draft import references, rules
from rlu_attestation.policy_draft.observation import Observation, observe, observe_evidence
from rlu_attestation.policy_draft.toml import Writer, array
from rlu_attestation.policy_table import ReadFile
from rlu_attestation.verdict import Step, Verdict

__all__ = ["Draft", "Observation", "draft", "observe", "observe_evidence", "require_sound", "trusting"]

_REVIEW = (
    "REVIEW: this is a draft, taken from evidence that may itself be bad. Nothing in it was judged yet: compare every value with what you "
    "expect from another source, and delete what you cannot explain. A value is right only because somebody knows why."
)


@dataclass(frozen=True, slots=True)
class Draft:
    """Two files: the policy, and the reference values that it names (empty where the evidence has none)."""

    policy: str
    references: str


def trusting(files: Mapping[str, tuple[str, ...]], read_file: ReadFile) -> Policy:
    """A policy of nothing but trust anchors, to look at evidence with; `files` as in `draft`.

    Raises:
        PolicyError: `policy.certificate`.
    """
    out = Writer()
    out.rule("version", "1")
    rules.trust(out, None, files)
    return policy_file.parse(str(out).encode(), read_file)


def require_sound(observation: Observation) -> None:
    """Nothing that was checked is false.

    Raises:
        Untrusted: `policy.draft.false`, with every step that failed.
    """
    if observation.false:
        wrong = "; ".join(f"{step.code}: {step.detail}" for step in observation.false)
        raise Untrusted(
            "policy.draft.false", f"no policy is drafted from evidence that does not hold: {wrong}"
        )


def draft(
    observation: Observation,
    *,
    references_name: str,
    files: Mapping[str, tuple[str, ...]],
    read_file: ReadFile,
) -> Draft:
    """Write a policy that accepts what was observed.

    Args:
        references_name: how the policy calls the file of reference values.
        files: trust anchors: `ek_roots`, `registrars` or `roots.<kind>` to names of certificate files, as the policy is to call them.
        read_file: gives the certificate files' content.
    """
    values = _references(observation)

    def read(name: str) -> bytes:
        return values.encode() if name == references_name else read_file(name)

    # How claims are known depends on what the policy names, so a first version without that rule is asked.
    named = references_name if values else ""
    first = _policy(observation, named, files, None)
    judged = observation.judge(policy_file.parse(first.encode(), read))
    text = _policy(observation, named, files, judged)
    policy_file.parse(text.encode(), read)
    return Draft(text, values)


def _references(observation: Observation) -> str:
    proof = observation.hardware
    if proof is None or not references.has_references(proof):
        return ""
    out = Writer()
    _header(out, observation)
    out.rule("version", "1")
    references.write(out, proof, "from the evidence")
    return str(out)


def _policy(
    observation: Observation,
    references_name: str,
    files: Mapping[str, tuple[str, ...]],
    judged: Verdict | None,
) -> str:
    statement, proof = observation.statement, observation.hardware
    out = Writer()
    _header(out, observation)
    out.rule("version", "1")
    if references_name:
        out.blank()
        out.rule("references", array([references_name]), "The reference values: PCRs and measurements.")
    rules.trust(out, observation, files)
    rules.times(out)
    if statement is not None:
        rules.signers(out, statement)
        rules.accept(out, statement, proof)
        rules.channel(out, statement)
        rules.lock(out, statement)
        rules.profile(out, statement)
        if statement.gpus is not None:
            rules.gpu(out, statement.gpus, observation.gpus is not None)
    elif proof is not None:
        rules.debug_alone(out, proof)
    if proof is not None:
        rules.tcb(out, proof)
        rules.tee(out, proof)
    if statement is not None:
        rules.sources(out, () if judged is None else judged.claims)
    if judged is not None:
        refused = {step.id for step in judged.failures}
        rules.waivers(out, [step for step in observation.unchecked if step.id in refused])
    return str(out)


def _header(out: Writer, observation: Observation) -> None:
    out.comment(_REVIEW)
    out.comment("")
    out.comment(f"From: {observation.name}")
    for kind, digest in observation.evidence:
        out.comment(f"Evidence: {kind}, sha256 {digest.hex()}")
    statement = observation.statement
    if statement is not None:
        out.comment(f"Statement: of {_iso(statement.issued_at)}, by the key {statement.ueid}")
    else:
        out.comment(
            "No instance statement was here: rules about model, software and place are left out, and refuse."
        )
    out.comment(f"Time of every check: {_iso(observation.at)}")
    out.comment(f"Checked without a policy, and true: {_ids(observation.passed)}")
    if observation.unchecked:
        out.comment(f"NOT checked, for lack of what to check it by: {_ids(observation.unchecked)}")
    if observation.false:
        out.comment(
            f"FALSE: {_ids(observation.false)}. The values below prove nothing: whoever sent the evidence chose them."
        )
    out.blank()


def _ids(steps: tuple[Step, ...]) -> str:
    return ", ".join(step.code or step.id for step in steps) or "nothing"


def _iso(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return f"{seconds} s after 1970"
