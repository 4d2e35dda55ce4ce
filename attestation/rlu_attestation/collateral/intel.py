"""Intel's Provisioning Certification Service, API version 4, or a PCCS: TCB information, QE identity and revocation lists.

The answers become one piece, in the form in which PCCS clients store them (`tdx.collateral_from_json`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from urllib.parse import unquote_to_bytes

from rlu_attestation import crl
from rlu_attestation.collateral.lists import CRL_TYPES, name_of
from rlu_attestation.collateral.want import Answer, Ask, Checked, FetchError, Services, Want
from rlu_attestation.errors import Malformed, Untrusted
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import Root, TdxEvidence

KIND = "tdx-collateral"
_JSON = ("application/json",)
_PCCS_CRL = (*CRL_TYPES, "text/plain", "application/json", "text/html")


def of_evidence(
    evidence: TdxEvidence, roots: Sequence[Root], at: datetime, services: Services
) -> tuple[Want, ...]:
    """What is published about a quote's platform.

    Raises:
        RluError: the quote's certificates are not Intel's.
    """
    tdx.verify_root(evidence, roots)
    tdx.verify_chain(evidence, at)
    fmspc = tdx.verify_pck(evidence).fmspc
    authority = "processor" if "Processor" in name_of(evidence.quote.pck_ca) else "platform"
    return (
        Want(
            name=f"TCB information, QE identity and revocation lists for FMSPC {fmspc.hex()}",
            kind=KIND,
            ask=lambda ask: _collect(ask, fmspc, authority, services),
            check=lambda data: check(data, evidence, at),
        ),
    )


def check(data: bytes, evidence: TdxEvidence, at: datetime) -> Checked:
    """Everything in it is Intel's, in force, and about this platform.

    Raises:
        RluError: what the steps of `evidence.tdx` raise; `collateral.fmspc`.
    """
    stapled = tdx.collateral_from_json(data)
    held = replace(evidence, collateral=stapled)
    info, identity = tdx.verify_tcb_info(held, at), tdx.verify_qe_identity(held, at)
    if info.fmspc != tdx.verify_pck(held).fmspc:
        raise Untrusted("collateral.fmspc", "the TCB information is of another platform")
    warning = ""
    try:
        tdx.verify_revocation(held, at)
    except Untrusted as error:
        if not error.code.endswith(".revoked"):
            raise
        warning = f"REVOKED: {error.message}"
    lists = (stapled.root_ca_crl, stapled.pck_crl)
    ends = [info.next_update, identity.next_update, *(one.next_update for one in lists if one.next_update)]
    starts = [info.issue_date, identity.issue_date, *(one.this_update for one in lists)]
    what = f"Intel's word on FMSPC {info.fmspc.hex()}, TCB evaluation {info.tcb_evaluation_data_number}"
    return Checked(what, max(starts), min(ends), warning)


def _collect(ask: Ask, fmspc: bytes, authority: str, services: Services) -> bytes:
    base = services.intel_pcs
    tcb = ask.get(f"{base}/tdx/certification/v4/tcb?fmspc={fmspc.hex()}", _JSON)
    identity = ask.get(f"{base}/tdx/certification/v4/qe/identity", _JSON)
    pck_crl = ask.get(f"{base}/sgx/certification/v4/pckcrl?ca={authority}&encoding=der", _PCCS_CRL)
    root_url = services.intel_crl or f"{base}/sgx/certification/v4/rootcacrl"
    tcb_text, tcb_signature = tdx.split_signed(tcb.content, "tcbInfo")
    identity_text, identity_signature = tdx.split_signed(identity.content, "enclaveIdentity")
    value = {
        "pck_crl_issuer_chain": _chain(pck_crl, "sgx-pck-crl-issuer-chain"),
        "root_ca_crl": _list(ask.get(root_url, _PCCS_CRL).content).hex(),
        "pck_crl": _list(pck_crl.content).hex(),
        "tcb_info_issuer_chain": _chain(tcb, "tcb-info-issuer-chain"),
        "tcb_info": tcb_text,
        "tcb_info_signature": tcb_signature.hex(),
        "qe_identity_issuer_chain": _chain(identity, "sgx-enclave-identity-issuer-chain"),
        "qe_identity": identity_text,
        "qe_identity_signature": identity_signature.hex(),
    }
    return json.dumps(value, indent=1).encode()


def _chain(answer: Answer, header: str) -> str:
    """Certificates in PEM, percent-encoded in a header."""
    if header not in answer.headers:
        raise FetchError("fetch.header", f"{answer.url}: the answer lacks the header {header}")
    try:
        return unquote_to_bytes(answer.headers[header]).decode("ascii")
    except UnicodeDecodeError as error:
        raise Malformed("fetch.header", f"{answer.url}: {header} is not PEM") from error


def _list(content: bytes) -> bytes:
    """A revocation list: in DER, as Intel serves it, or in hexadecimal, as a PCCS does."""
    if content[:1] == b"\x30" and content[1:2] >= b"\x80":
        crl.parse(content)
        return content
    try:
        return bytes.fromhex(content.decode("ascii").strip().strip('"'))
    except ValueError as error:
        raise Malformed("crl.encoding", "a revocation list is DER, or DER in hexadecimal") from error
