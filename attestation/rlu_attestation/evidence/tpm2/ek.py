"""Endorsement key certificates: what TPMs store, and whose TPM it is (TCG EK Credential Profile 2.x)."""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation import der, x509
from rlu_attestation.errors import Malformed
from rlu_attestation.x509 import Certificate

EK_PURPOSE = "2.23.133.8.1"
"""tcg-kp-EKCertificate. Newer certificates of Google Compute Engine carry no extended key usage at all."""

_NV_CODE = "tpm2.ek_nv"
_CODE = "ek.vendor.encoding"
_MANUFACTURER, _MODEL, _VERSION = "2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"
_DIRECTORY_NAME = der.context(4)
_STRINGS = frozenset({0x0C, 0x13, 0x16})  # UTF8String, PrintableString, IA5String
_MAX_NV = 16 * 1024

_VENDORS = {
    "id:414D4400": "AMD",
    "id:41544D4C": "Atmel",
    "id:4252434D": "Broadcom",
    "id:474F4F47": "Google",
    "id:48504500": "HPE",
    "id:49424D00": "IBM",
    "id:49465800": "Infineon",
    "id:494E5443": "Intel",
    "id:4E545A00": "Nationz",
    "id:4E544300": "Nuvoton",
    "id:51434F4D": "Qualcomm",
    "id:534D534E": "Samsung",
    "id:53544D20": "STMicroelectronics",
    "id:4D534654": "Microsoft",
    "id:00001014": "libtpms",
}
"""TCG Vendor ID Registry; and `id:00001014`, which is no registered vendor but what the emulator libtpms (swtpm) calls itself."""

_EMULATORS = ("swtpm", "libtpms", "simulator", "emulator")


@dataclass(frozen=True, slots=True)
class TpmVendor:
    """What the EK certificate's issuer says about the TPM; a field it leaves out is empty.

    `emulator` is true when the model is a software TPM's: such a TPM proves nothing about hardware, whatever its CA says.
    """

    manufacturer: str
    vendor: str
    model: str
    version: str
    emulator: bool


def trim_nv(data: bytes) -> bytes:
    """The DER certificate at the start of a TPM's NV index, without the padding behind it (0xFF or 0x00, by vendor).

    Raises:
        Malformed: not DER, or something else than padding behind it (`tpm2.ek_nv`).
    """
    if len(data) < 4 or data[:1] != bytes([der.SEQUENCE]):
        raise Malformed(_NV_CODE, "the NV index does not begin with a certificate")
    if len(data) > _MAX_NV:
        raise Malformed(_NV_CODE, f"an NV index has at most {_MAX_NV} bytes")
    size = _total_length(data)
    if size > len(data):
        raise Malformed(_NV_CODE, "the certificate is longer than the NV index")
    rest = data[size:]
    if rest.strip(b"\xff") and rest.strip(b"\x00"):
        raise Malformed(_NV_CODE, "something else than padding follows the certificate")
    return data[:size]


def vendor_of(certificate: Certificate) -> TpmVendor:
    """Manufacturer, model and firmware version from the subject alternative name (EK Credential Profile section 3.2.9).

    Raises:
        Malformed: a directory name that is not DER, or an attribute given twice (`ek.vendor.encoding`).
    """
    found: dict[str, str] = {}
    extension = certificate.extension(x509.SUBJECT_ALTERNATIVE_NAME)
    if extension is not None:
        outer = x509.reader(extension.value, _CODE)
        names = outer.inside(der.SEQUENCE, "subjectAltName")
        outer.end()
        while names.remaining:
            name = names.any("GeneralName")
            if name.tag == _DIRECTORY_NAME:
                _read_name(name.content, found)
    manufacturer, model = found.get(_MANUFACTURER, ""), found.get(_MODEL, "")
    return TpmVendor(
        manufacturer=manufacturer,
        vendor=_VENDORS.get(manufacturer, ""),
        model=model,
        version=found.get(_VERSION, ""),
        emulator=any(name in model.lower() for name in _EMULATORS),
    )


def _read_name(content: bytes, found: dict[str, str]) -> None:
    wrapper = x509.reader(content, _CODE)
    rdns = wrapper.inside(der.SEQUENCE, "directoryName")
    wrapper.end()
    while rdns.remaining:
        rdn = rdns.inside(der.SET, "RelativeDistinguishedName")
        while rdn.remaining:
            pair = rdn.inside(der.SEQUENCE, "AttributeTypeAndValue")
            oid = pair.oid("type")
            value = pair.any("value")
            pair.end()
            if oid not in (_MANUFACTURER, _MODEL, _VERSION):
                continue
            if oid in found or value.tag not in _STRINGS:
                raise Malformed(_CODE, "a TPM attribute of the certificate is given twice or is not a string")
            found[oid] = _text(value.content)


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(_CODE, "a TPM attribute of the certificate is not UTF-8") from error
    if len(text) > 256 or not text.isprintable():
        raise Malformed(_CODE, "a TPM attribute of the certificate is not printable text")
    return text


def _total_length(data: bytes) -> int:
    if data[1] not in (0x81, 0x82):
        raise Malformed(_NV_CODE, "a certificate's length has one or two bytes after the first")
    octets = data[1] & 0x7F
    return 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")
