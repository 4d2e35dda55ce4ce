"""The verification steps that all evidence with a TPM shares, one function each: what follows once somebody vouches for the AK.

Each takes the parsed evidence, returns what it proved, and raises `Untrusted` with a code `<step>.<cause>`. A step looks at one thing only:
that the parts it relies on are genuine is proved by *other* steps, and that the AK is one, by the kind of evidence.

    ak.attributes    the AK is a restricted signing key that cannot leave the TPM
    key.attributes   the instance key was made in a TPM, cannot leave it, and cannot be used without its policy
    key.policy       that policy is: the quoted PCR values, and the attestor's secret
    key.certify      the AK certified the instance key
    quote.signature  the AK signed the quote
    quote.binding    the quote was made for this instance statement
    quote.pcrs       the PCR values beside the quote are those quoted
    quote.clock      certification and quote come from one AK in one TPM since the same reset
    quote.eventlog   the firmware's event log replays to the quoted values (only when the item has one)
    quote.ima        the kernel's list of measurements replays to the quoted PCR 10 (only when the item has one)
"""

from __future__ import annotations

import hmac
from typing import cast

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation.errors import Malformed, Untrusted
from rlu_attestation.tpm import eventlog, ima
from rlu_attestation.tpm.attest import CertifyInfo, QuoteInfo
from rlu_attestation.tpm.constants import Alg, Attribute, Curve
from rlu_attestation.tpm.ima_log import PCR
from rlu_attestation.tpm.members import TpmEvidence
from rlu_attestation.tpm.policy import PcrValues, key_policy, pcr_digest, without_pcr
from rlu_attestation.tpm.public import EccKey, Public, Scheme, name_of
from rlu_attestation.tpm.signatures import SIGNING_HASHES, verify

_MIN_RSA_BITS = 2048
_FIXED = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN
_AK_REQUIRED = _FIXED | Attribute.RESTRICTED | Attribute.SIGN
KEY_ATTRIBUTES = _FIXED | Attribute.NO_DA | Attribute.SIGN
"""Attributes of an instance key, exactly; above all there is no userWithAuth."""


def verify_ak_attributes(evidence: TpmEvidence) -> None:
    """ak.attributes: a restricted signing key, made in a TPM, that cannot leave it.

    Raises:
        Untrusted: `ak.attributes.flags`, `.scheme`, `.strength`.
    """
    check_ak(evidence.ak_public)


def check_ak(ak: Public) -> None:
    """What `ak.attributes` demands, for a registrar that has only the public area; same codes."""
    step = "ak.attributes"
    if ak.attributes & _AK_REQUIRED != _AK_REQUIRED or ak.attributes & Attribute.DECRYPT:
        raise Untrusted(f"{step}.flags", "the AK is not a restricted signing key that is fixed to its TPM")
    schemes = (Alg.ECDSA,) if isinstance(ak.key, EccKey) else (Alg.RSASSA, Alg.RSAPSS)
    if ak.scheme is None or ak.scheme.scheme not in schemes or ak.symmetric is not None:
        raise Untrusted(f"{step}.scheme", "the AK is not fixed to a signature scheme")
    if ak.scheme.hash not in SIGNING_HASHES or ak.name_alg not in SIGNING_HASHES:
        raise Untrusted(f"{step}.strength", "the AK signs or is named with SHA-1")
    if not isinstance(ak.key, EccKey) and ak.key.key_bits < _MIN_RSA_BITS:
        raise Untrusted(f"{step}.strength", f"the AK's RSA key has {ak.key.key_bits} bits")


def verify_key_attributes(evidence: TpmEvidence) -> ec.EllipticCurvePublicKey:
    """key.attributes: the instance key is P-256 and exactly as FORMATS section 4 says; returns it.

    The caller must compare it with the key that signs the statement.

    Raises:
        Untrusted: `key.attributes.flags`, `.algorithm`.
    """
    step = "key.attributes"
    public = evidence.key_public
    if (
        not isinstance(public.key, EccKey)
        or public.key.curve is not Curve.NIST_P256
        or public.name_alg is not Alg.SHA256
    ):
        raise Untrusted(
            f"{step}.algorithm", "the instance key is not a P-256 key with SHA-256 as its name algorithm"
        )
    if public.scheme not in (None, Scheme(Alg.ECDSA, Alg.SHA256)) or public.symmetric is not None:
        raise Untrusted(f"{step}.algorithm", "the instance key's scheme is not ECDSA with SHA-256")
    if public.attributes != KEY_ATTRIBUTES:
        raise Untrusted(
            f"{step}.flags",
            "the instance key's attributes are not exactly those that tie it to its TPM and policy",
        )
    return cast(ec.EllipticCurvePublicKey, public.public_key())


def verify_key_policy(evidence: TpmEvidence) -> None:
    """key.policy: the instance key can sign only in the quoted platform state, for a caller that knows its secret.

    PCR 10 changes whenever something new is measured, so no key can be bound to it: with a list of the kernel's measurements in the item,
    the key's selection is the quote's without PCR 10.

    Raises:
        Untrusted: `key.policy.mismatch`, `.selection`, `.type`.
    """
    step = "key.policy"
    select, values = _quoted(evidence, step).pcr_select, evidence.pcrs
    if evidence.ima_log is not None:
        select, values = without_pcr(select, values, PCR)
    digest = pcr_digest(Alg.SHA256, select, values, f"{step}.selection")
    if not hmac.compare_digest(evidence.key_public.auth_policy, key_policy(select.raw, digest)):
        raise Untrusted(f"{step}.mismatch", "the instance key is not bound to the quoted PCRs and a secret")


def verify_key_certify(evidence: TpmEvidence) -> None:
    """key.certify: the AK signed that the instance key is loaded in its TPM.

    Raises:
        Untrusted: `key.certify.type`, `.signature`, `.name`, `.extra_data`.
    """
    step = "key.certify"
    attest = evidence.certify.attest
    if not isinstance(attest.attested, CertifyInfo):
        raise Untrusted(f"{step}.type", "what the AK signed is not a certification")
    verify(evidence.ak_public, attest.raw, evidence.certify.signature, f"{step}.signature")
    if not hmac.compare_digest(attest.attested.name, name_of(evidence.key_public)):
        raise Untrusted(f"{step}.name", "the AK certified another key")
    if attest.extra_data:
        raise Untrusted(f"{step}.extra_data", "the certification carries qualifying data where none belongs")


def verify_quote_signature(evidence: TpmEvidence) -> None:
    """quote.signature: the AK signed the quote.

    Raises:
        Untrusted: `quote.signature.type`, `.invalid`.
    """
    step = "quote.signature"
    _quoted(evidence, step)
    verify(evidence.ak_public, evidence.quote.attest.raw, evidence.quote.signature, f"{step}.invalid")


def verify_quote_binding(evidence: TpmEvidence, binding: bytes) -> None:
    """quote.binding: the quote's qualifying data commits to this statement (FORMATS section 3).

    Args:
        evidence: the parsed item.
        binding: `H("rlu/instance/v1" ‖ claims bytes)` of the statement, 32 bytes.

    Raises:
        Untrusted: `quote.binding.mismatch`.
        Malformed: `quote.binding.path` when the path does not fit the tree.
    """
    try:
        root = evidence.binding.root(binding)
    except Malformed as error:
        raise Malformed("quote.binding.path", error.message) from error
    if not hmac.compare_digest(root, evidence.quote.attest.extra_data):
        raise Untrusted("quote.binding.mismatch", "the quote was not made for this statement")


def verify_quote_pcrs(evidence: TpmEvidence) -> PcrValues:
    """quote.pcrs: the values beside the quote are exactly those it selects, with its digest; returns them.

    Raises:
        Untrusted: `quote.pcrs.empty`, `.selection`, `.digest`, `.type`.
    """
    step = "quote.pcrs"
    quoted = _quoted(evidence, step)
    if not evidence.pcrs:
        raise Untrusted(f"{step}.empty", "the quote selects no PCR")
    # The TPM hashes the values with the hash of the AK's signature scheme (Part 3, TPM2_Quote).
    digest = pcr_digest(evidence.quote.signature.hash, quoted.pcr_select, evidence.pcrs, f"{step}.selection")
    if not hmac.compare_digest(digest, quoted.pcr_digest):
        raise Untrusted(f"{step}.digest", "the PCR values are not those that were quoted")
    return evidence.pcrs


def verify_quote_clock(evidence: TpmEvidence) -> None:
    """quote.clock: certification and quote were made by one AK under one firmware since the same reset of one TPM.

    resetCount and firmwareVersion are obfuscated outside the endorsement hierarchy, but equally for one AK (Part 1 section 36.7), so only
    equality is asked. A certification that was kept over a reboot therefore refuses: the attestor certifies at every start.

    Raises:
        Untrusted: `quote.clock.signer`, `.firmware`, `.reset`.
    """
    step = "quote.clock"
    certify, quote = evidence.certify.attest, evidence.quote.attest
    if certify.qualified_signer != quote.qualified_signer:
        raise Untrusted(f"{step}.signer", "certification and quote name different signers")
    if certify.firmware_version != quote.firmware_version:
        raise Untrusted(f"{step}.firmware", "the TPM's firmware changed between certification and quote")
    if certify.clock_info.reset_count != quote.clock_info.reset_count:
        raise Untrusted(f"{step}.reset", "the TPM was reset between certification and quote")


def verify_quote_eventlog(evidence: TpmEvidence) -> eventlog.Replay | None:
    """quote.eventlog: the event log, where there is one, leads to the quoted values; returns the replayed log, or None without one.

    Raises:
        Untrusted: `quote.eventlog.mismatch`, `.uncovered`.
    """
    if evidence.event_log is None:
        return None
    return eventlog.verify_replay(evidence.event_log, evidence.pcrs)


def verify_quote_ima(evidence: TpmEvidence) -> ima.ImaReplay | None:
    """quote.ima: a beginning of the kernel's list, where there is one, leads to the quoted PCR 10; returns the replay, or None without one.

    Raises:
        Untrusted: `quote.ima.uncovered`, `.mismatch`, `.boot_aggregate`.
    """
    return None if evidence.ima_log is None else ima.verify_replay(evidence.ima_log, evidence.pcrs)


def _quoted(evidence: TpmEvidence, step: str) -> QuoteInfo:
    attested = evidence.quote.attest.attested
    if not isinstance(attested, QuoteInfo):
        raise Untrusted(f"{step}.type", "what the AK signed is not a quote")
    return attested
