"""Collateral: what Intel publishes about platforms, quoting enclaves and revoked keys, stapled to a quote.

TCB information and QE identity are the exact text that Intel signed. Issuer chains are the signer and the root. Nothing here is verified.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from rlu_attestation import crl, x509
from rlu_attestation.crl import CertificateList
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence.tdx import signed_json
from rlu_attestation.evidence.tdx.quote import pem_chain
from rlu_attestation.x509 import Certificate

CODE = "tdx.collateral.encoding"
MAX_COLLATERAL = 1024 * 1024
SIGNATURE_SIZE = 64
_CHAIN = 2
_LISTS = ("root_ca_crl", "pck_crl")
_CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_TEXTS = ("tcb_info", "qe_identity")
_SIGNATURES = ("tcb_info_signature", "qe_identity_signature")
MEMBERS = frozenset({*_LISTS, *_CHAINS, *_TEXTS, *_SIGNATURES})
_SIGNED = re.compile(r',"signature":"([0-9A-Fa-f]{128})"\}\s*', re.ASCII)


@dataclass(frozen=True, slots=True)
class Collateral:
    """What the verification of a quote needs from Intel.

    Attributes:
        root_ca_crl, pck_crl: revocation lists of the root and of the authority that issued the PCK.
        tcb_info, qe_identity: the text that Intel signed, byte for byte; signatures are r ‖ s.
        pck_crl_issuer_chain, tcb_info_issuer_chain, qe_identity_issuer_chain: signer and root.
    """

    root_ca_crl: CertificateList
    pck_crl: CertificateList
    pck_crl_issuer_chain: tuple[Certificate, ...]
    tcb_info: str
    tcb_info_signature: bytes
    tcb_info_issuer_chain: tuple[Certificate, ...]
    qe_identity: str
    qe_identity_signature: bytes
    qe_identity_issuer_chain: tuple[Certificate, ...]

    def to_json(self) -> dict[str, Any]:
        """The `collateral` member of an evidence item."""
        value: dict[str, Any] = {name: b64u(getattr(self, name).raw) for name in _LISTS}
        value |= {name: [b64u(found.raw) for found in getattr(self, name)] for name in _CHAINS}
        value |= {name: b64u(getattr(self, name)) for name in _SIGNATURES}
        return value | {name: getattr(self, name) for name in _TEXTS}


def parse_collateral(value: object) -> Collateral:
    """Read the `collateral` member of an evidence item (FORMATS section 4.4).

    Raises:
        Malformed: `tdx.collateral.encoding`, `encoding.base64url`, `x509.encoding`, `crl.encoding`.
    """
    if not isinstance(value, dict) or value.keys() != MEMBERS:
        raise Malformed(CODE, "collateral lacks a member or has an unknown one")
    lists = {name: unb64u(value[name]) for name in _LISTS}
    chains = {}
    for name in _CHAINS:
        if not isinstance(value[name], list) or len(value[name]) != _CHAIN:
            raise Malformed(CODE, f"{name} is the signer and the root")
        chains[name] = tuple(x509.parse(unb64u(found)) for found in value[name])
    return _collateral(value, lists, chains, {name: unb64u(value[name]) for name in _SIGNATURES})


def collateral_from_json(data: bytes) -> Collateral:
    """Read collateral as PCCS clients store it: chains in PEM, revocation lists (DER) and signatures in hexadecimal.

    A member `pck_certificate_chain`, which some clients add, is passed over: the quote brings its own.

    Raises:
        Malformed: `tdx.collateral.encoding`, `x509.encoding`, `crl.encoding`.
    """
    if len(data) > MAX_COLLATERAL:
        raise Malformed(CODE, f"longer than {MAX_COLLATERAL} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(CODE, "not UTF-8") from error
    value = signed_json.decode(text, CODE, MAX_COLLATERAL)
    if not isinstance(value, dict) or value.keys() - {"pck_certificate_chain"} != MEMBERS:
        raise Malformed(CODE, "collateral lacks a member or has an unknown one")
    if not all(isinstance(value[name], str) and value[name].isascii() for name in MEMBERS):
        raise Malformed(CODE, "every member of collateral is a string of ASCII")
    chains = {name: pem_chain(value[name].encode(), _CHAIN, CODE) for name in _CHAINS}
    lists = {name: _hexadecimal(value[name]) for name in _LISTS}
    return _collateral(value, lists, chains, {name: _hexadecimal(value[name]) for name in _SIGNATURES})


def split_signed(body: bytes, member: str) -> tuple[str, bytes]:
    """The exact text and the signature in an answer of Intel's service, `{"<member>":<text>,"signature":"<hexadecimal>"}`.

    Args:
        body: what the service answered.
        member: `tcbInfo` or `enclaveIdentity`.

    Raises:
        Malformed: another form (`tdx.collateral.encoding`).
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(CODE, "not UTF-8") from error
    head = f'{{"{member}":'
    if not text.startswith(head) or len(text) > signed_json.MAX_TEXT:
        raise Malformed(CODE, f"not an answer with {member}")
    try:
        _, end = json.JSONDecoder().raw_decode(text, len(head))
    except (ValueError, RecursionError) as error:
        raise Malformed(CODE, "not JSON") from error
    tail = _SIGNED.fullmatch(text, end)
    if tail is None:
        raise Malformed(CODE, "a signature in hexadecimal and nothing else follows")
    return text[len(head) : end], bytes.fromhex(tail.group(1))


def _collateral(
    value: dict[str, Any],
    lists: dict[str, bytes],
    chains: dict[str, tuple[Certificate, ...]],
    signatures: dict[str, bytes],
) -> Collateral:
    for name in _TEXTS:
        text = value[name]
        if not isinstance(text, str) or not text.isascii() or not 0 < len(text) <= signed_json.MAX_TEXT:
            raise Malformed(CODE, f"{name} is at most {signed_json.MAX_TEXT} characters of ASCII")
    if any(len(signature) != SIGNATURE_SIZE for signature in signatures.values()):
        raise Malformed(CODE, f"signatures have {SIGNATURE_SIZE} bytes")
    return Collateral(
        root_ca_crl=crl.parse(lists["root_ca_crl"]),
        pck_crl=crl.parse(lists["pck_crl"]),
        pck_crl_issuer_chain=chains["pck_crl_issuer_chain"],
        tcb_info=value["tcb_info"],
        tcb_info_signature=signatures["tcb_info_signature"],
        tcb_info_issuer_chain=chains["tcb_info_issuer_chain"],
        qe_identity=value["qe_identity"],
        qe_identity_signature=signatures["qe_identity_signature"],
        qe_identity_issuer_chain=chains["qe_identity_issuer_chain"],
    )


def _hexadecimal(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise Malformed(CODE, "lists and signatures are hexadecimal") from error
    if data.hex() != text.lower():
        raise Malformed(CODE, "hexadecimal has no white space")
    return data
