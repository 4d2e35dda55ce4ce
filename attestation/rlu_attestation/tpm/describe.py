"""TPM structures as rows for people: the specification's name, the value, and what it means. Nothing here is verified."""

from __future__ import annotations

from rlu_attestation.tpm.attest import Attest, QuoteInfo
from rlu_attestation.tpm.constants import Attribute
from rlu_attestation.tpm.eventlog import EventLog
from rlu_attestation.tpm.ima_log import ImaLog
from rlu_attestation.tpm.members import Attested, TpmEvidence
from rlu_attestation.tpm.policy import PcrValues
from rlu_attestation.tpm.public import EccKey, Public, name_of

Row = tuple[str, str, str]

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


def describe(evidence: TpmEvidence) -> list[Row]:
    """Rows of all that kinds with a TPM share, each name after the member it belongs to."""
    sections = {
        "ak_public": describe_public(evidence.ak_public),
        "key_public": describe_public(evidence.key_public),
        "certify": describe_attested(evidence.certify),
        "quote": describe_attested(evidence.quote),
        "pcrs": describe_pcrs(evidence.pcrs),
        "event_log": [] if evidence.event_log is None else describe_event_log(evidence.event_log),
        "ima_log": [] if evidence.ima_log is None else describe_ima_log(evidence.ima_log),
    }
    return [
        (f"{member}.{name}", value, meaning)
        for member, rows in sections.items()
        for name, value, meaning in rows
    ]


def describe_pcrs(pcrs: PcrValues) -> list[Row]:
    """Values by bank and number."""
    return [
        (f"{bank}:{number}", value.hex(), "")
        for bank, values in pcrs.items()
        for number, value in sorted(values.items())
    ]


def describe_event_log(log: EventLog) -> list[Row]:
    """The firmware's events in their order."""
    return [
        (f"PCR {event.pcr}", f"type {event.event_type:#010x}, {len(event.data)} bytes", "")
        for event in log.events
    ]


def describe_ima_log(log: ImaLog) -> list[Row]:
    """The kernel's measurements in their order."""
    return [
        (
            entry.name if entry.name.isprintable() else ascii(entry.name),
            "violation" if entry.violation else f"{entry.algorithm}:{entry.digest.hex()}",
            "could not be measured: proves nothing" if entry.violation else entry.template,
        )
        for entry in log.entries
    ]


def describe_attested(attested: Attested) -> list[Row]:
    """What was signed, and how."""
    signature = attested.signature
    return [
        *describe_attest(attested.attest),
        ("sigAlg", signature.scheme.name, "scheme of the AK's signature"),
        ("hash", signature.hash.name, "hash of the AK's signature"),
    ]


def describe_attest(attest: Attest) -> list[Row]:
    """A TPMS_ATTEST."""
    clock = attest.clock_info
    rows = [
        ("magic", "TPM_GENERATED_VALUE", "the TPM made this structure"),
        ("qualifiedSigner", attest.qualified_signer.hex(), "the signing key and its ancestors"),
        ("extraData", attest.extra_data.hex() or "empty", "what the caller asked to be signed along"),
        ("clock", f"{clock.clock} ms", "time the TPM was powered"),
        (
            "resetCount",
            str(clock.reset_count),
            "TPM resets; obfuscated for keys outside the endorsement hierarchy",
        ),
        ("restartCount", str(clock.restart_count), "TPM restarts and resumes"),
        ("safe", "YES" if clock.safe else "NO", "the clock never ran backwards"),
        ("firmwareVersion", f"{attest.firmware_version:#018x}", "vendor specific"),
    ]
    if isinstance(attest.attested, QuoteInfo):
        banks = "; ".join(
            f"{bank.name} {', '.join(map(str, pcrs))}" for bank, pcrs in attest.attested.pcr_select.banks
        )
        rows.append(("pcrSelect", banks or "none", "PCRs that were quoted"))
        rows.append(("pcrDigest", attest.attested.pcr_digest.hex(), "digest of their values"))
    else:
        rows.append(("name", attest.attested.name.hex(), "the key that was certified"))
        rows.append(("qualifiedName", attest.attested.qualified_name.hex(), "that key and its ancestors"))
    return rows


def describe_public(public: Public) -> list[Row]:
    """A TPMT_PUBLIC."""
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
        for flag in Attribute
        if flag in public.attributes
    ]
    return [
        ("type", kind, ""),
        ("nameAlg", public.name_alg.name, ""),
        ("name", name_of(public).hex(), "computed: digest of the public area"),
        ("scheme", named, "the only scheme that the key may use" if scheme else "chosen by the caller"),
        ("authPolicy", public.auth_policy.hex() or "empty", "what must hold for the key to be used"),
        *((f"objectAttributes.{name}", "set", meaning) for name, meaning in attributes),
    ]
