"""What endorses evidence: revocation lists, OCSP answers, reference values, Intel's collateral; and policies with their signatures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from rlu_attestation import crl
from rlu_attestation.bundle import BundledPolicy, Collateral
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.explain.certificates import explain_certificate
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.policy_file import digest_of

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10 only
    import tomli as tomllib

_SHOWN = 32
"""Serial numbers of a revocation list that are shown; a list may hold thousands."""


def explain_collateral(piece: Collateral) -> Section:
    """A piece of collateral. Raises what its parser raises."""
    return _PIECES[piece.kind](piece.data)


def explain_policy(policy: BundledPolicy) -> Section:
    """A policy's keys as they stand. Raises Malformed: `policy.encoding`."""
    try:
        value = tomllib.loads(policy.toml.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Malformed("policy.encoding", "not TOML in UTF-8") from error
    files = dict(policy.files)
    named = "its digest, if it names no files" if not files else "what pins it, with its files"
    rows = [Row("digest", digest_of(policy.toml, files).hex(), f"computed: {named} (--policy-sha256)")]
    rows += [Row(name, text) for name, text in _flat(value, "")]
    rows += [
        Row(f"file {name}", f"{len(data)} bytes", "a file that the policy names")
        for name, data in files.items()
    ]
    return Section("Appraisal policy", tuple(rows))


def explain_policy_signature(value: Mapping[str, object]) -> Section:
    """A detached signature on a policy (FORMATS section 13)."""
    meanings = {
        "alg": "algorithm of the key",
        "kid": "thumbprint of the key that signed",
        "policy_sha256": "digest of the policy, with the files it names",
        "signature": "not verified here",
    }
    rows = (Row(name, str(found), meanings.get(name, "")) for name, found in value.items())
    return Section("Signature on a policy", tuple(rows))


def _list(data: bytes) -> Section:
    found = crl.parse(data)
    serials = sorted(found.revoked)
    shown = " ".join(f"{serial:x}" for serial in serials[:_SHOWN])
    more = f" and {len(serials) - _SHOWN} more" if len(serials) > _SHOWN else ""
    rows = (
        Row("thisUpdate", found.this_update.isoformat(), "it speaks about certificates from here"),
        Row("nextUpdate", _moment(found.next_update), "and until here"),
        Row("revokedCertificates", f"{shown}{more}" or "none", "serial numbers"),
        Row("extensions", ", ".join(extension.oid for extension in found.extensions) or "none"),
    )
    return Section("Certificate revocation list", rows)


def _ocsp(data: bytes) -> Section:
    from rlu_attestation.evidence import nvidia

    found = nvidia.parse_ocsp(data)
    rows = []
    for single in found.singles:
        rows += [
            Row("certID.serialNumber", f"{single.serial:x}", "the certificate that it speaks of"),
            Row("certStatus", single.status.value, "not verified here"),
            Row("thisUpdate", single.this_update.isoformat()),
            Row("nextUpdate", _moment(single.next_update)),
        ]
    return Section("OCSP response", tuple(rows), tuple(map(explain_certificate, found.certificates)))


def _rim(data: bytes) -> Section:
    from rlu_attestation.evidence import nvidia

    found = nvidia.parse_rim(data)
    active = [value for value in found.values if value.active]
    rows = (
        Row("edition", found.kind.value, "kind of device"),
        Row("product", found.product, "chip"),
        Row("colloquialVersion", found.version, "of driver or VBIOS that these values are for"),
        Row("tagId", found.tag_id),
        Row("Resource", f"{len(found.values)}, {len(active)} active", "reference values"),
        *(
            Row(
                f"Resource {value.index}",
                " or ".join(digest.hex() for digest in value.alternatives),
                f"{value.name}: measurement block {value.index + 1}",
            )
            for value in active
        ),
    )
    signers = tuple(map(explain_certificate, found.certificates))
    return Section("NVIDIA reference integrity manifest (RIM)", rows, signers)


def _collateral(data: bytes) -> Section:
    from rlu_attestation.evidence import tdx

    found = tdx.collateral_from_json(data)
    parts = []
    for name, text in (("tcb_info", found.tcb_info), ("qe_identity", found.qe_identity)):
        try:
            rows = tuple(Row(key, value) for key, value in _flat(json.loads(text), ""))
        except (ValueError, RecursionError, AttributeError):
            rows = (Row("unreadable", "tdx.collateral.encoding", "not a JSON object"),)
        parts.append(Section(name, rows))
    for name, revoked in (("root_ca_crl", found.root_ca_crl), ("pck_crl", found.pck_crl)):
        parts.append(Section(name, _list(revoked.raw).rows))
    for name, chain in (
        ("tcb_info_issuer_chain", found.tcb_info_issuer_chain),
        ("qe_identity_issuer_chain", found.qe_identity_issuer_chain),
        ("pck_crl_issuer_chain", found.pck_crl_issuer_chain),
    ):
        parts.append(Section(name, (), tuple(map(explain_certificate, chain))))
    signatures = (
        Row("tcb_info_signature", found.tcb_info_signature.hex(), "r ‖ s by Intel; not verified here"),
        Row("qe_identity_signature", found.qe_identity_signature.hex(), "r ‖ s by Intel; not verified here"),
    )
    return Section("Intel's collateral for a TDX quote", signatures, tuple(parts))


_PIECES: dict[str, Callable[[bytes], Section]] = {
    "x509-crl": _list,
    "ocsp-response": _ocsp,
    "nvidia-rim": _rim,
    "tdx-collateral": _collateral,
}


def explain_roots(fingerprints: tuple[bytes, ...]) -> tuple[Row, ...]:
    """Fingerprints of a bundle."""
    meaning = "a root that the maker's verification ended in; for readers, nothing trusts it"
    return tuple(Row("root", f"{found.hex()} ({b64u(found)})", meaning) for found in fingerprints)


def _flat(value: object, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{prefix}[{number}]")
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value, default=str)


def _moment(time: datetime | None) -> str:
    return "none" if time is None else time.isoformat()


def is_policy(text: bytes) -> bool:
    """Whether a file is TOML with the version that policies have."""
    try:
        return isinstance(tomllib.loads(text.decode("utf-8")).get("version"), int)
    except (ValueError, RecursionError, RluError):
        return False
