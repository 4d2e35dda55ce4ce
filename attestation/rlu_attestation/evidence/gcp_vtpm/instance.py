"""The instance that an attestation key belongs to, as Google's certificate names it: extension 1.3.6.1.4.1.11129.2.1.21.

Google documents the fields under "Certificate information" of Shielded VM's guide to remote attestation; the ASN.1 is that of Google's own
verifier (google/go-tpm-tools, `server/instance_info.go`):

    SEQUENCE { zone UTF8String, projectNumber INTEGER, projectId UTF8String, instanceId INTEGER, instanceName UTF8String,
               securityProperties [0] SEQUENCE {
                   securityVersion [0] INTEGER, isProduction [1] BOOLEAN, tpmDataAlwaysEncrypted [2] BOOLEAN,
                   suspendResumeDisabled [3] BOOLEAN, vmtdDisabled [4] BOOLEAN, alwaysInVmtd [5] BOOLEAN } }

Every security property, and all of them, may be left out, and then is false or zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlu_attestation import der, x509
from rlu_attestation.errors import Malformed, Untrusted
from rlu_attestation.x509 import Certificate

EXTENSION = "1.3.6.1.4.1.11129.2.1.21"
_STEP = "gcp-vtpm.certificate"
_CODE = f"{_STEP}.extension"
_UTF8 = 0x0C
_MAX_NUMBER = 2**64 - 1
_MAX_TEXT = 128
_ZONE = re.compile(r"[a-z]+(?:-[a-z]+)*[0-9]+-[a-z0-9]+", re.ASCII)
_FLAGS = 6


@dataclass(frozen=True, slots=True)
class GceInstance:
    """The extension's fields, under Google's names. Google says so; nothing here is measured.

    Attributes:
        security_version: of the host software that runs the virtual TPM; Google raises it.
        is_production: false for certificates of Google's test environments.
        tpm_data_always_encrypted, suspend_resume_disabled, vmtd_disabled, always_in_vmtd: as named; Google does not explain them further.
    """

    zone: str
    project_number: int
    project_id: str
    instance_id: int
    instance_name: str
    security_version: int
    is_production: bool
    tpm_data_always_encrypted: bool
    suspend_resume_disabled: bool
    vmtd_disabled: bool
    always_in_vmtd: bool

    @property
    def region(self) -> str:
        """The region of the zone: `us-central1` of `us-central1-a`."""
        return self.zone.rpartition("-")[0]


def instance_of(certificate: Certificate) -> GceInstance:
    """The instance that a certificate was issued for.

    Raises:
        Untrusted: `gcp-vtpm.certificate.no_instance` without the extension.
        Malformed: `gcp-vtpm.certificate.extension`.
    """
    extension = certificate.extension(EXTENSION)
    if extension is None:
        raise Untrusted(f"{_STEP}.no_instance", "the certificate does not name a Compute Engine instance")
    return parse_instance(extension.value)


def parse_instance(value: bytes) -> GceInstance:
    """Read the extension's value.

    Raises:
        Malformed: `gcp-vtpm.certificate.extension`.
    """
    outer = x509.reader(value, _CODE)
    body = outer.inside(der.SEQUENCE, "GceInstanceIdentity")
    outer.end()
    zone = _text(body, "zone")
    if _ZONE.fullmatch(zone) is None:
        raise Malformed(_CODE, "the zone is not the name of a zone")
    project_number = _number(body, "projectNumber")
    project_id = _text(body, "projectId")
    instance_id = _number(body, "instanceId")
    instance_name = _text(body, "instanceName")
    version, flags = _security_properties(body)
    body.end()
    return GceInstance(
        zone,
        project_number,
        project_id,
        instance_id,
        instance_name,
        version,
        *(flags[n] for n in range(1, _FLAGS)),
    )


def _security_properties(body: der.Reader) -> tuple[int, dict[int, bool]]:
    version, flags = 0, dict.fromkeys(range(1, _FLAGS), False)
    if not body.next_is(der.context(0)):
        return version, flags
    wrapper = body.inside(der.context(0), "securityProperties")
    properties = wrapper.inside(der.SEQUENCE, "securityProperties")
    wrapper.end()
    if properties.next_is(der.context(0)):
        tagged = properties.inside(der.context(0), "securityVersion")
        version = _number(tagged, "securityVersion")
        tagged.end()
    for number in flags:
        if properties.next_is(der.context(number)):
            tagged = properties.inside(der.context(number), "securityProperties")
            flags[number] = tagged.boolean("securityProperties")
            tagged.end()
    properties.end()
    return version, flags


def _number(body: der.Reader, field: str) -> int:
    value = body.integer(field)
    if not 0 <= value <= _MAX_NUMBER:
        raise Malformed(_CODE, f"{field} is not a number of 64 bits")
    return value


def _text(body: der.Reader, field: str) -> str:
    content = body.element(_UTF8, field).content
    text = content.decode("ascii") if content.isascii() else ""
    if not 0 < len(text) <= _MAX_TEXT or not text.isprintable():
        raise Malformed(_CODE, f"{field} is not 1 to {_MAX_TEXT} characters of printable ASCII")
    return text
