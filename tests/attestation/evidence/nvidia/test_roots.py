"""The pinned roots are what NVIDIA publishes."""

from __future__ import annotations

import pytest

from fakes.vectors import vector
from rlu_attestation import x509
from rlu_attestation.evidence.nvidia import PINNED, Root, Roots

pytestmark = pytest.mark.vectors


@pytest.mark.parametrize(
    ("name", "roots"),
    [
        ("device_root.pem", PINNED.gpu),
        ("switch_device_root.pem", PINNED.switch),
        ("rim_root.pem", PINNED.rim),
    ],
)
def test_published_roots(name: str, roots: tuple[Root, ...]) -> None:
    (certificate,) = x509.parse_many((vector("nvidia", "switch-ls10").parent / name).read_bytes())
    (root,) = roots
    assert root.is_of(certificate)
    assert Root.of(certificate, root.name) == root


def test_device_roots_do_not_sign_reference_values() -> None:
    assert not {*PINNED.gpu, *PINNED.switch} & {*PINNED.rim}
    assert Roots(PINNED.gpu, PINNED.switch, PINNED.rim) == PINNED
