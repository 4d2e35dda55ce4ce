"""The verifier and dcap-qvl 0.7.0 agree, but where this one is stricter on purpose, and where that one has a policy of its own."""

from __future__ import annotations

import functools
import json
from typing import Any

import dcap_qvl
import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import intel, tdx_changes, tdx_perturbations
from fakes.intel import COMPONENTS, MODULE, Parts, Platform, level, svn_level
from fakes.pki import AT
from fakes.tdx_changes import V4, V5, V15, Perturbation, genuine, svn
from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import Root, TdxClaims

STRICTER = {
    "leftovers": {
        "trailing-garbage",
        "trailing-zeros",
        "trailing-garbage-in-signature-data",
        "trailing-garbage-in-certification-data",
        "chain-with-text",
        "chain-trailing-garbage",
        "chain-with-a-line-end-moved",
        "chain-with-a-long-line",
        "pck-extension-trailing-garbage",
        "attestation-key-bound-not-zero-padded",
    },
    "a second certificate of the list's authority": {
        "crl-issuer-that-the-root-did-not-sign",
        "crl-issuer-by-another-root",
        "crl-issuer-expired",
    },
    "reserved bits and bytes": {
        found.name
        for found in tdx_perturbations.FORM
        if found.name.startswith(("reserved-bytes", "reserved-bit-set-xfam"))
    }
    | {"xfam-without-sse", "qe-identity-beyond-its-mask"},
    "types that do not belong there": {
        "certification-data-1",
        "certification-data-5",
        "certification-data-7",
        "tcb-info-type-1",
        "tcb-info-date-with-offset",
        "tcb-info-category-not-text",
        "pck-sgx-type-unknown",
        "pck-sgx-type-not-an-enumeration",
        "pck-configuration-unknown",
        "pck-configuration-not-boolean",
    },
    "members that are unknown or given twice": {
        "pck-member-unknown",
        "pck-member-twice",
        "tcb-info-member-unknown",
        "tcb-info-level-member-unknown",
        "tcb-info-module-identity-twice",
        "qe-identity-member-unknown",
    },
    "whose certificate it is, and what for": {
        "pck-by-the-root",
        "pck-named-otherwise",
        "pck-may-certify",
        "pck-not-for-signatures",
        "pck-without-usage",
        "tcb-signer-may-certify",
    },
    "the root in a chain": {
        "swapped-ca-and-root",
        "root-signature-flipped",
        "tcb-info-chain-of-another-root",
        "qe-identity-chain-of-another-root",
        "crl-issuer-chain-of-the-processor-ca",
        "crl-issuer-chain-of-another-key",
        "crl-issuer-chain-of-another-root",
    },
    "lists of the future": {"crl-of-the-future", "root-crl-of-the-future"},
    "levels in another order": {
        "tcb-info-levels-unsorted",
        "tcb-info-levels-unsorted-by-pcesvn-and-tdx",
        "module-levels-unsorted",
        "module-level-twice",
        "qe-levels-unsorted",
    },
    "the provisioning enclave": {"tcb-info-of-another-pce"},
}
"""What dcap-qvl accepts and this verifier does not."""
POLICY = {"debug-on": "Debug mode is enabled", "sept-ve-disable-off": "SEPT_VE_DISABLE is not enabled"}
"""What dcap-qvl refuses and this verifier leaves to a policy."""
OURS_ALONE = ("item-", "binding-", "collateral-", "nonce-", "replayed-")
"""Forms that dcap-qvl does not know."""
COMPARED = [
    found
    for found in tdx_perturbations.ALL
    if not found.name.startswith(OURS_ALONE) and "quote" not in found.perturb(genuine(found.platform)).further
]


def ours(parts: Parts) -> TdxClaims | None:
    """Claims when everything but the binding holds."""
    try:
        evidence = tdx.parse(parts.item())
        claims = tdx.verify(evidence, AT, [Root.of(x509.parse(intel.root().der))])
        tdx.verify_revocation(evidence, AT)
    except RluError:
        return None
    return claims


def theirs(parts: Parts) -> tuple[str, list[str]] | str:
    """Status and advisories, or why not."""
    collateral = dcap_qvl.QuoteCollateralV3.from_json(parts.pccs().decode())
    try:
        found = dcap_qvl.verify_with_root_ca(
            parts.quote.data, collateral, intel.root().der, int(AT.timestamp())
        )
    except ValueError as error:
        return str(error)
    return found.status, sorted(found.advisory_ids)


@pytest.mark.parametrize("found", COMPARED, ids=lambda found: found.name)
def test_perturbations(found: Perturbation) -> None:
    parts = found.perturb(genuine(found.platform))
    claims, other = ours(parts), theirs(parts)
    if found.name in POLICY:
        assert claims is not None
        assert POLICY[found.name] in other
    elif found.name in set().union(*STRICTER.values()):
        assert claims is None
        assert isinstance(other, tuple)
    else:
        assert (claims is None) == isinstance(other, str), other
        if claims is not None:
            assert (claims.status.value, list(claims.advisory_ids)) == other


def test_what_is_named_exists() -> None:
    names = {found.name for found in COMPARED}
    assert names >= set().union(*STRICTER.values()) | POLICY.keys()
    assert sum(map(len, STRICTER.values())) == len(set().union(*STRICTER.values()))


@pytest.mark.parametrize("platform", [V4, V5, V15, Platform(processor=True)])
def test_genuine(platform: Platform) -> None:
    assert ours(genuine(platform)) is not None
    assert theirs(genuine(platform)) == ("UpToDate", [])


@functools.cache
def signed_quote(platform: Platform, launched: bytes, current: bytes) -> intel.Quote:
    fields = {"TEE_TCB_SVN_2": current} if platform.body == 3 else {}
    return platform.quote(tdx_changes.REPORT_DATA, TEE_TCB_SVN=launched, **fields)


STATUSES = [
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
]
SVNS = st.builds(svn, st.integers(1, 4), st.integers(0, 2), st.integers(1, 3))


def order(found: dict[str, Any], *names: str) -> list[str]:
    """What levels are sorted by: SGX components, then others in some order."""
    return [json.dumps([found["tcb"][name]]).rjust(999) for name in ("sgxtcbcomponents", *names)]


@st.composite
def rated(draw: st.DrawFn) -> Parts:
    """A platform somewhere among levels that Intel rates somehow."""
    platform = draw(st.sampled_from([V4, V15]))
    parts = genuine(platform)
    parts.quote = signed_quote(platform, draw(SVNS), draw(SVNS))
    levels = [
        level(
            draw(st.sampled_from([COMPONENTS, (), (4,)])),
            draw(st.sampled_from([0, 13, 14])),
            (draw(st.integers(0, 3)), 0, draw(st.integers(0, 3))),
            draw(st.sampled_from(STATUSES)),
            f"INTEL-SA-{number}",
        )
        for number in range(draw(st.integers(1, 3)))
    ]
    levels.sort(key=lambda found: order(found, "pcesvn", "tdxtcbcomponents"), reverse=True)
    by_tdx = sorted(levels, key=lambda found: order(found, "tdxtcbcomponents", "pcesvn"), reverse=True)
    hypothesis.assume(levels == by_tdx)
    identities = [
        {
            "id": f"TDX_0{major}",
            **MODULE,
            "tcbLevels": [
                svn_level(least, draw(st.sampled_from(["UpToDate", "OutOfDate", "Revoked"])))
                for least in sorted(draw(st.sets(st.integers(1, 4), min_size=1)), reverse=True)
            ],
        }
        for major in draw(st.sets(st.integers(1, 2)))
    ]
    found = intel.tcb_info(tcbLevels=levels, tdxModuleIdentities=identities)
    parts = tdx_changes.text("tcb_info", lambda _: intel.text_of(found))(parts)
    identity = intel.qe_identity(
        tcbLevels=[
            svn_level(draw(st.integers(5, 7)), draw(st.sampled_from(["UpToDate", "OutOfDate"]))),
            svn_level(draw(st.integers(0, 4)), draw(st.sampled_from(["OutOfDate", "Revoked"]))),
        ]
    )
    return tdx_changes.text("qe_identity", lambda _: intel.text_of(identity))(parts)


@settings(max_examples=200)
@given(rated())
def test_ratings(parts: Parts) -> None:
    claims, other = ours(parts), theirs(parts)
    if claims is None:
        assert isinstance(other, str)
    else:
        assert (claims.status.value, list(claims.advisory_ids)) == other
