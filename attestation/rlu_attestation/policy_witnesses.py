"""The policy's witnesses: whose cosignatures on heads of a log count, and how many must have seen what a bundle holds."""

from __future__ import annotations

from rlu_attestation.errors import RluError
from rlu_attestation.log.cosignature import WitnessKey
from rlu_attestation.policy_table import Table

MAX_WITNESSES = 64


def witnesses(trust: Table) -> tuple[WitnessKey, ...]:
    """`trust.witnesses`: verifier keys, each public key once, so that nobody counts as two.

    Raises:
        PolicyError: `policy.value`.
    """
    found: list[WitnessKey] = []
    for text in trust.strings("witnesses"):
        try:
            found.append(WitnessKey.parse(text))
        except RluError as error:
            raise trust.wrong(
                "witnesses",
                f"holds {text[:200]!r}, which is no verifier key as `rlu witness key` shows it: {error.message}",
            ) from error
    if len({witness.public for witness in found}) != len(found):
        raise trust.wrong("witnesses", "holds one key twice")
    if len(found) > MAX_WITNESSES:
        raise trust.wrong("witnesses", f"may hold {MAX_WITNESSES} keys")
    return tuple(found)


def witnesses_required(times: Table, known: tuple[WitnessKey, ...]) -> int:
    """`time.witnesses_required`: of how many names; one name may have several keys, as while it changes them.

    Raises:
        PolicyError: `policy.value`.
    """
    required = times.whole("witnesses_required", 0, 0, MAX_WITNESSES)
    names = len({witness.name for witness in known})
    if required > names:
        raise times.wrong("witnesses_required", f"is {required}, and trust.witnesses names {names}")
    return required
