"""Where a policy comes from, and what pins it: a digest, a signature, the bundle; and roots that the operator adds beside it."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rlu_attestation import policy_file
from rlu_attestation.bundle import BundledPolicy
from rlu_attestation.errors import Untrusted
from rlu_attestation.policy import Policy, PolicyError
from rlu_attestation.policy_hardware import ROOTS
from rlu_attestation.policy_table import ReadFile
from rlu_attestation.x509 import Certificate

TPM, REGISTRAR = "tpm", "registrar"
KINDS = (*ROOTS, TPM, REGISTRAR)
"""Kinds of roots: of evidence; of TPM vendors (`trust.ek_roots`); registrars (`trust.registrars`)."""


@dataclass(frozen=True, slots=True)
class OperatorRoot:
    """A root that counts because whoever verifies put it there; `file` says where it was found."""

    kind: str
    certificate: Certificate
    file: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "sha256": self.certificate.fingerprint.hex(), "file": self.file}


def with_roots(policy: Policy, roots: Iterable[OperatorRoot]) -> Policy:
    """The policy with roots added to its own. Its digest stays that of the file: who shows it shows the roots beside it."""
    added: dict[str, tuple[Certificate, ...]] = {}
    for root in roots:
        added[root.kind] = (*added.get(root.kind, ()), root.certificate)
    kinds = {kind: (*policy.roots.get(kind, ()), *added[kind]) for kind in ROOTS if kind in added}
    return replace(
        policy,
        ek_roots=(*policy.ek_roots, *added.get(TPM, ())),
        registrars=(*policy.registrars, *added.get(REGISTRAR, ())),
        roots={**policy.roots, **kinds},
    )


def check_digest(policy: Policy, pinned: bytes) -> None:
    """The policy is the one that the caller pins, with every file that it names.

    Raises:
        Untrusted: `policy.digest`.
    """
    if not hmac.compare_digest(policy.digest, pinned):
        raise Untrusted(
            "policy.digest",
            f"the policy is another than the one you pin: its digest is {policy.digest.hex()}",
        )


def read_bundled(bundled: BundledPolicy | None, pinned: bytes) -> Policy:
    """The policy inside a bundle, which counts only for who knows its digest; nothing of it is read before the digest fits.

    Raises:
        PolicyError: `policy.bundled`: there is none; or what `policy_file.parse` raises.
        Untrusted: `policy.digest`.
    """
    if bundled is None:
        raise PolicyError("policy.bundled", "the bundle holds no policy: pass --policy")
    digest = policy_file.digest_of(bundled.toml, dict(bundled.files))
    if not hmac.compare_digest(digest, pinned):
        raise Untrusted(
            "policy.digest",
            f"the bundle's policy is another than the one you pin: its digest is {digest.hex()}",
        )
    policy = policy_file.parse(bundled.toml, _reader(dict(bundled.files)))
    check_digest(policy, pinned)  # a file beside it that it does not name is no part of what it says
    return policy


def _reader(files: Mapping[str, bytes]) -> ReadFile:
    def read(name: str) -> bytes:
        if name not in files:
            raise PolicyError("policy.certificate", f"{name} is not in the bundle")
        return files[name]

    return read
