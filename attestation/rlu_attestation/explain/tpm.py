"""TPM evidence, field by field, under the TPM specification's names."""

from __future__ import annotations

from rlu_attestation.evidence import tpm2
from rlu_attestation.evidence.tpm2 import Tpm2Evidence
from rlu_attestation.explain.certificates import explain_certificate
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.tpm.attest import Attest, QuoteInfo
from rlu_attestation.tpm.eventlog import EventLog
from rlu_attestation.tpm.members import Attested
from rlu_attestation.tpm.public import EccKey, Public
from rlu_attestation.x509 import Certificate

_ATTRIBUTES = {
    "FIXED_TPM": "cannot leave this TPM",
    "ST_CLEAR": "gone after a restart",
    "FIXED_PARENT": "cannot move to another parent",
    "SENSITIVE_DATA_ORIGIN": "the TPM made it",
    "USER_WITH_AUTH": "its password alone is enough to use it",
    "ADMIN_WITH_POLICY": "administration needs its policy",
    "NO_DA": "no lockout after wrong secrets",
    "RESTRICTED": "signs only what the TPM itself made",
    "DECRYPT": "may decrypt",
    "SIGN": "may sign",
}


def explain_tpm2(evidence: Tpm2Evidence) -> Section:
    """All parts of an evidence item."""
    pcrs = tuple(
        Row(f"{bank}:{number}", value.hex())
        for bank, values in evidence.pcrs.items()
        for number, value in sorted(values.items())
    )
    binding = evidence.binding
    parts = [
        _titled("ek_certificate", evidence.ek_certificate),
        *(_titled(f"ek_chain {n}", certificate) for n, certificate in enumerate(evidence.ek_chain)),
        _public("ak_public", evidence.ak_public),
        _titled("ak_certificate", evidence.ak_certificate),
        *(_titled(f"ak_chain {n}", certificate) for n, certificate in enumerate(evidence.ak_chain)),
        _public("key_public", evidence.key_public),
        _attested("certify", evidence.certify),
        _attested("quote", evidence.quote),
        Section("pcrs", pcrs),
        Section(
            "binding",
            (
                Row("leaf_index", str(binding.leaf_index), "this statement among those that share the quote"),
                Row("tree_size", str(binding.tree_size), "statements that share the quote"),
                Row("path", " ".join(node.hex() for node in binding.path) or "empty"),
            ),
        ),
    ]
    if evidence.event_log is not None:
        parts.append(_event_log(evidence.event_log))
    return Section("TPM 2.0 evidence", (Row("kind", tpm2.KIND),), tuple(parts))


def explain_attest(data: bytes, title: str) -> Section:
    """A TPMS_ATTEST. Raises Malformed, Unsupported."""
    return Section(title, _attest_rows(tpm2.parse_attest(data)))


def _attested(title: str, attested: Attested) -> Section:
    signature = attested.signature
    rows = (
        Row("sigAlg", signature.scheme.name, "scheme of the AK's signature"),
        Row("hash", signature.hash.name, "hash of the AK's signature"),
    )
    return Section(title, _attest_rows(attested.attest) + rows)


def _attest_rows(attest: Attest) -> tuple[Row, ...]:
    clock = attest.clock_info
    rows = [
        Row("magic", "TPM_GENERATED_VALUE", "the TPM made this structure"),
        Row("qualifiedSigner", attest.qualified_signer.hex(), "the signing key and its ancestors"),
        Row("extraData", attest.extra_data.hex() or "empty", "what the caller asked to be signed along"),
        Row("clock", f"{clock.clock} ms", "time the TPM was powered"),
        Row(
            "resetCount",
            str(clock.reset_count),
            "TPM resets; obfuscated for keys outside the endorsement hierarchy",
        ),
        Row("restartCount", str(clock.restart_count), "TPM restarts and resumes"),
        Row("safe", "YES" if clock.safe else "NO", "the clock never ran backwards"),
        Row("firmwareVersion", f"{attest.firmware_version:#018x}", "vendor specific"),
    ]
    if isinstance(attest.attested, QuoteInfo):
        banks = "; ".join(
            f"{bank.name} {', '.join(map(str, pcrs))}" for bank, pcrs in attest.attested.pcr_select.banks
        )
        rows.append(Row("pcrSelect", banks or "none", "PCRs that were quoted"))
        rows.append(Row("pcrDigest", attest.attested.pcr_digest.hex(), "digest of their values"))
    else:
        rows.append(Row("name", attest.attested.name.hex(), "the key that was certified"))
        rows.append(Row("qualifiedName", attest.attested.qualified_name.hex(), "that key and its ancestors"))
    return tuple(rows)


def _public(title: str, public: Public) -> Section:
    key = public.key
    kind = f"ECC, {key.curve.name}" if isinstance(key, EccKey) else f"RSA, {key.key_bits} bits"
    scheme = public.scheme
    named = (
        "NULL"
        if scheme is None
        else f"{scheme.scheme.name} {scheme.hash.name if scheme.hash else ''}".strip()
    )
    attributes = [
        (flag.name or "", _ATTRIBUTES.get(flag.name or "", ""))
        for flag in tpm2.Attribute
        if flag in public.attributes
    ]
    rows = [
        Row("type", kind),
        Row("nameAlg", public.name_alg.name),
        Row("name", tpm2.name_of(public).hex(), "computed: digest of the public area"),
        Row("scheme", named, "the only scheme that the key may use" if scheme else "chosen by the caller"),
        Row("authPolicy", public.auth_policy.hex() or "empty", "what must hold for the key to be used"),
        *(Row(f"objectAttributes.{name}", "set", meaning) for name, meaning in attributes),
    ]
    return Section(title, tuple(rows))


def _titled(title: str, certificate: Certificate) -> Section:
    section = explain_certificate(certificate)
    return Section(f"{title}: {section.title}", section.rows)


def _event_log(log: EventLog) -> Section:
    rows = tuple(
        Row(f"PCR {event.pcr}", f"type {event.event_type:#010x}, {len(event.data)} bytes")
        for event in log.events
    )
    return Section(f"event_log: {len(log.events)} events", rows)
