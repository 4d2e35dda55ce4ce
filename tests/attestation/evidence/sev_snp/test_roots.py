"""Roots are known by both digests, and one line has one root."""

from __future__ import annotations

from dataclasses import replace

from fakes import amd
from rlu_attestation import x509
from rlu_attestation.evidence.sev_snp import PINNED, ProductLine, Root


def test_pinned() -> None:
    assert [root.product for root in PINNED] == list(ProductLine)
    digests = [digest for root in PINNED for digest in (root.certificate_sha256, root.spki_sha256)]
    assert {len(digest) for digest in digests} == {32}
    assert len(set(digests)) == len(digests)


def test_both_digests_count() -> None:
    certificate = x509.parse(amd.ark().der)
    root = Root.of(certificate, ProductLine.MILAN)
    assert root.is_of(certificate)
    assert not replace(root, spki_sha256=bytes(32)).is_of(certificate)
    assert not replace(root, certificate_sha256=bytes(32)).is_of(certificate)
    assert not any(pinned.is_of(certificate) for pinned in PINNED)
