"""AWS's root is known by both digests."""

from __future__ import annotations

from dataclasses import replace

from fakes import aws
from rlu_attestation import x509
from rlu_attestation.evidence.nitro import PINNED, Root


def test_pinned() -> None:
    (root,) = PINNED
    assert len(root.certificate_sha256) == len(root.spki_sha256) == 32
    assert root.certificate_sha256.hex().startswith("641a0321a3e244ef")


def test_both_digests_count() -> None:
    certificate = x509.parse(aws.root().der)
    root = Root.of(certificate)
    assert root.is_of(certificate)
    assert not replace(root, spki_sha256=bytes(32)).is_of(certificate)
    assert not replace(root, certificate_sha256=bytes(32)).is_of(certificate)
    assert not PINNED[0].is_of(certificate)
