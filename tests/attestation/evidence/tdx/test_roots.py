"""The root is known by both digests."""

from __future__ import annotations

from dataclasses import replace

from fakes import intel
from rlu_attestation import x509
from rlu_attestation.evidence.tdx import PINNED, Root


def test_pinned() -> None:
    digests = [digest for root in PINNED for digest in (root.certificate_sha256, root.spki_sha256)]
    assert {len(digest) for digest in digests} == {32}
    assert len(set(digests)) == len(digests) == 2


def test_both_digests_count() -> None:
    certificate = x509.parse(intel.root().der)
    root = Root.of(certificate)
    assert root.is_of(certificate)
    assert not replace(root, spki_sha256=bytes(32)).is_of(certificate)
    assert not replace(root, certificate_sha256=bytes(32)).is_of(certificate)
    assert not any(pinned.is_of(certificate) for pinned in PINNED)
