"""The policy's word on revoked keys: `ueid`s that stand in it, and signed lists with the keys that may sign them (FORMATS section 14.2)."""

from __future__ import annotations

from collections.abc import Mapping

from rlu_attestation.errors import RluError
from rlu_attestation.policy import PolicyError
from rlu_attestation.policy_signature import PublicKey, load_public_key
from rlu_attestation.policy_table import ReadFile, Table
from rlu_attestation.revocation import Revocation
from rlu_attestation.revocation_list import merge, verify

MAX_NUMBER = 2**53 - 1


def revocations(trust: Table, read_file: ReadFile) -> Mapping[str, Revocation]:
    """`trust.revocations`, `.revocation_keys` and `.revocation_minimum`; by `ueid`.

    Raises:
        PolicyError: `policy.key`, `policy.value`, `policy.revocations` and a cause of `revocation_list.verify`, or `.unreadable`.
    """
    names = trust.strings("revocations")
    least = trust.whole("revocation_minimum", 0, 0, MAX_NUMBER)
    signers = [_signer(trust, text, read_file) for text in trust.strings("revocation_keys")]
    if bool(names) != bool(signers):
        raise trust.wrong("revocations", "and revocation_keys belong together: lists, and who may sign them")
    if least and not names:
        raise trust.wrong("revocation_minimum", "is of lists, and revocations names none")
    found = []
    for name in names:
        data = _file(trust, "revocations", name, read_file)
        try:
            found.append(verify(data, signers, least))
        except RluError as error:
            raise PolicyError(
                f"policy.{error.code}", f"trust.revocations: {name}: {error.message}"
            ) from error
    return merge(found)


def _signer(trust: Table, text: str, read_file: ReadFile) -> PublicKey:
    inline = text.lstrip().startswith("-----BEGIN ")
    return load_public_key(
        text.encode("utf-8") if inline else _file(trust, "revocation_keys", text, read_file)
    )


def _file(trust: Table, key: str, name: str, read_file: ReadFile) -> bytes:
    try:
        return read_file(name)
    except (OSError, ValueError, PolicyError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", "not a path")
        raise PolicyError("policy.revocations.unreadable", f"trust.{key}: {name}: {reason}") from error
