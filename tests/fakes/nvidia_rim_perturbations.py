"""Reference values, their XML and OCSP responses gone wrong; part of `nvidia_perturbations.ALL`."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta

from cryptography.hazmat.primitives import hashes

from fakes import asn1
from fakes import nvidia as fake
from fakes.nvidia import DRIVER, NVDEC0, ZERO, Parts, block, digest, identity_ca, provisioner, rim, rim_chain
from fakes.nvidia_changes import (
    ALGORITHM,
    CONTENT,
    GPU,
    L2,
    L3,
    MISMATCH,
    MISSING,
    OCSP,
    OTHER,
    SECOND,
    SWITCH,
    TOP,
    XML,
    XMLDSIG,
    also,
    answers,
    both,
    golden,
    l4,
    opaque,
    rims,
    signed,
    signers,
    text,
    this_brom,
    without,
)
from fakes.pki import AT, YEAR

RIM = [
    ("rim-driver-missing", lambda p: p.rims.pop(0), "nvidia.rim_driver.missing"),
    ("rim-vbios-missing", lambda p: p.rims.pop(1), "nvidia.rim_vbios.missing"),
    ("rim-switch-missing", lambda p: p.rims.pop(2), "nvidia.rim_vbios.missing"),
    ("rim-of-another-driver", rims(0, version="550.54.14"), "nvidia.rim_driver.missing"),
    ("rim-of-another-chip", rims(0, product="GB100"), "nvidia.rim_driver.product"),
    ("rim-of-a-switch", rims(0, edition="SWITCH"), "nvidia.rim_driver.product"),
    ("rim-twice", lambda p: p.rims.append(p.rims[0]), "nvidia.rim_driver.twice"),
    ("driver-updated", opaque(DRIVER=b"550.90.07\0"), "nvidia.rim_driver.missing"),
    ("vbios-of-another-version", opaque(VBIOS=b"\0\x9f\0\x96\1\0\0\0"), "nvidia.rim_vbios.missing"),
    ("rim-value-edited", lambda p: text(GPU.measurements()[0].hex(), digest("evil").hex())(p), (
        "nvidia.rim_driver.digest")),
    ("rim-version-edited", both(text('Version="550.54.15"', 'Version="550.90.07"'), opaque(DRIVER=b"550.90.07\0"),
        signed(OTHER, opaque={DRIVER: b"550.90.07\0"})), "nvidia.rim_driver.digest"),
    ("rim-deactivated", text('active="True"', 'active="False"'), "nvidia.rim_driver.digest"),
    ("rim-white-space-edited", text("</ns0:Payload>", "</ns0:Payload> "), "nvidia.rim_driver.digest"),
    ("rim-namespace-added", text("<SoftwareIdentity ", '<SoftwareIdentity xmlns:evil="urn:x" '), (
        "nvidia.rim_driver.digest")),
    ("rim-digest-edited", lambda p: text("<ds:DigestValue>", "<ds:DigestValue>AAAA")(p), XMLDSIG),
    ("rim-digest-of-other-contents", lambda p: redigest(p), "nvidia.rim_driver.signature"),
    ("rim-signature-edited", lambda p: text("<ds:SignatureValue>", "<ds:SignatureValue> A")(p), XMLDSIG),
    ("rim-signed-over-sha256", rims(0, hash=hashes.SHA256()), "nvidia.rim_driver.signature"),
    ("rim-signed-by-another-key", rims(0, key=fake.p384("someone")), "nvidia.rim_driver.signature"),
    ("rim-signer-of-another-root", signers(*(lambda n=n: rim_chain("impostor/")[n] for n in range(4))), "nvidia.rim_driver.root"),
    ("rim-signed-by-a-device", signers(lambda: GPU.brom, provisioner, identity_ca, fake.device_root), "nvidia.rim_driver.root"),
    ("rim-root-left-out", signers(l4(), L3, L2), ("nvidia.rim_driver.root", )),
    ("rim-expired-signer", signers(l4(not_after=AT - SECOND), L3, L2, TOP), "nvidia.rim_driver.expired"),
    ("rim-not-yet-valid-signer", signers(l4(not_before=AT + SECOND), L3, L2, TOP), "nvidia.rim_driver.not_yet_valid"),
    ("rim-signer-not-for-signatures", signers(l4(usages=(2,)), L3, L2, TOP), "nvidia.rim_driver.usage"),
    ("rim-signer-by-another-key", signers(l4(signer=GPU.brom), L3, L2, TOP), "nvidia.rim_driver.signature"),
    ("rim-chain-out-of-order", signers(l4(), L2, L3, TOP), ("nvidia.rim_driver.order", MISSING)),
    ("rim-link-left-out", signers(l4(), L2, TOP), ("nvidia.rim_driver.unknown_issuer", MISSING)),
    ("measurement-mismatch", signed(measurements={5: digest("evil")}), MISMATCH),
    ("measurement-mismatch-of-the-second-gpu", signed(OTHER, measurements={4: digest("evil")}), MISMATCH),
    ("measurement-mismatch-of-the-switch", signed(SWITCH, measurements={30: digest("evil")}), MISMATCH),
    ("measurement-35-with-nvdec0", opaque(NVDEC0=b"\xaa"), None),
    ("measurement-35-differs-with-nvdec0", signed(opaque={NVDEC0: b"\xaa"}, measurements={35: digest("evil")}), MISMATCH),
    ("measurements-moved-by-one", signed(blocks=[block(n, v) for n, v in enumerate([ZERO, *GPU.measurements()], 1)]), MISMATCH),
    ("measurements-cut", signed(blocks=[block(n, v) for n, v in enumerate(GPU.measurements()[:60], 1)]), "nvidia.measurements.absent"),
    ("rims-conflict", rims(0, values=golden(False, {1: [GPU.measurements()[1]]})), "nvidia.measurements.conflict"),
    ("rim-beyond-the-report", rims(0, values=golden(False, {70: [ZERO]})), "nvidia.measurements.absent"),
]  # fmt: skip


def redigest(parts: Parts) -> None:
    """Contents and digest changed together; only the signature stands in the way."""
    before = rim(GPU, False)
    after = rim(GPU, False, values=golden(False, {0: [digest("evil")]}))
    signature = before.signature(before.document())
    old, new = (
        hashlib.sha384((one.document() + "</SoftwareIdentity>").encode()).digest() for one in (before, after)
    )
    document = after.document() + signature.replace(fake.b64(old), fake.b64(new)) + "</SoftwareIdentity>"
    parts.rims[0] = document.encode()


TOP_DER = rim_chain()[-1].der
DOCTYPE = '<!DOCTYPE SoftwareIdentity [<!ENTITY a "b">]>'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
SIGNATURES = [
    ("xml-empty", lambda p: p.rims.__setitem__(0, b""), XML),
    ("xml-not-xml", lambda p: p.rims.__setitem__(0, b"%PDF"), XML),
    ("xml-cut", lambda p: p.rims.__setitem__(0, p.rims[0][:-1]), XML),
    ("xml-trailing-garbage", lambda p: p.rims.__setitem__(0, p.rims[0] + b"<a/>"), XML),
    ("xml-two-documents", lambda p: p.rims.__setitem__(0, p.rims[0] * 2), XML),
    ("xml-doctype", rims(0, head="<!DOCTYPE SoftwareIdentity>"), XML),
    ("xml-entity", rims(0, head=DOCTYPE), XML),
    ("xml-billion-laughs", rims(0, head=f'<!DOCTYPE lolz [<!ENTITY l0 "lol">{LAUGHS}]>', inside="<a>&l9;</a>"), XML),
    ("xml-external-entity", rims(0, head='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', inside="<a>&e;</a>"), XML),
    ("xml-undefined-entity", rims(0, inside="<a>&e;</a>"), XML),
    ("xml-comment", text("</ns0:Payload>", "<!-- x --></ns0:Payload>"), XML),
    ("xml-cdata", text("</ns0:Payload>", "<![CDATA[x]]></ns0:Payload>"), XML),
    ("xml-processing-instruction", text("</ns0:Payload>", "<?x y?></ns0:Payload>"), XML),
    ("xml-stylesheet", rims(0, head='<?xml-stylesheet href="http://example.com"?>'), XML),
    ("xml-encoding-latin-1", rims(0, head='<?xml version="1.0" encoding="ISO-8859-1"?>'), XML),
    ("xml-encoding-utf-16", lambda p: p.rims.__setitem__(0, p.rims[0].decode().encode("utf-16")), XML),
    ("xml-version-1.1", rims(0, head='<?xml version="1.1"?>'), XML),
    ("xml-attribute-of-xml", text("<ns0:Payload>", '<ns0:Payload xml:base="http://example.com">'), XML),
    ("xml-id-attribute", rims(0, inside='<a xml:id="a"></a>'), XML),
    ("xml-deep", rims(0, inside="<a>" * 20 + "</a>" * 20), XML),
    ("xml-very-deep", rims(0, inside="<a>" * 4000 + "</a>" * 4000), XML),
    ("xml-large", rims(0, inside=f"<a>{'x' * 262144}</a>"), XML),
    ("xml-unbound-prefix", rims(0, inside="<evil:a></evil:a>"), XML),
    ("xml-relative-namespace", rims(0, inside='<a xmlns="evil"></a>'), XML),
    ("xml-not-utf-8", lambda p: p.rims.__setitem__(0, p.rims[0].replace(b"revision", b"\xffevision")), XML),
    ("signature-missing", lambda p: p.rims.__setitem__(0, (rim(GPU, False).document() + "</SoftwareIdentity>").encode()), XMLDSIG),
    ("signature-twice", lambda p: doubled(p), XMLDSIG),
    ("signature-wrapped", lambda p: wrapped(p), XMLDSIG),
    ("signature-deeper", lambda p: deeper(p), XMLDSIG),
    ("signature-alone", lambda p: alone(p), XMLDSIG),
    ("signature-with-an-object", rims(0, object="<ds:Object><a></a></ds:Object>"), XMLDSIG),
    ("signature-with-an-id", text("<ds:Signature ", '<ds:Signature Id="a" '), XMLDSIG),
    ("signed-info-with-an-id", text("<ds:SignedInfo>", '<ds:SignedInfo Id="a">'), XMLDSIG),
    ("signed-info-twice", text("<ds:SignedInfo>", "<ds:SignedInfo></ds:SignedInfo><ds:SignedInfo>"), XMLDSIG),
    ("signed-info-with-text", text("<ds:SignedInfo>", "<ds:SignedInfo>x"), XMLDSIG),
    ("reference-elsewhere", rims(0, uri=' URI="#a"'), ALGORITHM),
    ("reference-to-the-network", rims(0, uri=' URI="http://example.com/rim.xml"'), ALGORITHM),
    ("reference-without-uri", rims(0, uri=""), ALGORITHM),
    ("reference-with-an-id", rims(0, uri=' Id="a" URI=""'), ALGORITHM),
    ("reference-twice", rims(0, reference='<ds:Reference URI=""></ds:Reference>'), XMLDSIG),
    ("transform-xslt", rims(0, transforms=(fake.ENVELOPED, "http://www.w3.org/TR/1999/REC-xslt-19991116")), ALGORITHM),
    ("transform-xpath", rims(0, transforms=("http://www.w3.org/TR/1999/REC-xpath-19991116", fake.C14N)), ALGORITHM),
    ("transform-with-comments", rims(0, transforms=(fake.ENVELOPED, fake.C14N + "#WithComments")), ALGORITHM),
    ("transform-exclusive", rims(0, transforms=(fake.ENVELOPED, "http://www.w3.org/2001/10/xml-exc-c14n#")), ALGORITHM),
    ("transform-left-out", rims(0, transforms=(fake.ENVELOPED,)), XMLDSIG),
    ("transform-more", rims(0, transforms=(fake.ENVELOPED, fake.C14N, fake.C14N)), XMLDSIG),
    ("transforms-swapped", rims(0, transforms=(fake.C14N, fake.ENVELOPED)), ALGORITHM),
    ("canonicalization-1.0", rims(0, canonical="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"), ALGORITHM),
    ("signature-method-hmac", rims(0, signature_method="http://www.w3.org/2000/09/xmldsig#hmac-sha1"), ALGORITHM),
    ("signature-method-sha1", rims(0, signature_method="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha1"), ALGORITHM),
    ("digest-method-sha256", rims(0, digest_method="http://www.w3.org/2001/04/xmlenc#sha256"), ALGORITHM),
    ("method-with-parameters", text("/xml-c14n11\"></ds:Can", "/xml-c14n11\"><a></a></ds:Can"), ALGORITHM),
    ("key-value-instead-of-certificates", text("<ds:X509Data>", "<ds:KeyValue></ds:KeyValue><ds:X509Data>"), XMLDSIG),
    ("key-name", text("<ds:X509Data>", "<ds:X509Data><ds:X509SKI>AA==</ds:X509SKI>"), XMLDSIG),
    ("certificates-none", lambda p: emptied(p), XMLDSIG),
    ("certificates-nine", rims(0, chain=(TOP_DER,) * 9), XMLDSIG),
    ("certificate-with-an-attribute", text("<ds:X509Certificate>", '<ds:X509Certificate Id="a">'), XMLDSIG),
    ("certificate-not-base64", text("<ds:X509Certificate>", "<ds:X509Certificate>!"), XMLDSIG),
    ("certificate-not-der", text("<ds:X509Certificate>", "<ds:X509Certificate>AAAA"), "parse: x509.encoding"),
    ("tag-of-another-kind", rims(0, root="Software"), CONTENT),
    ("edition-unknown", rims(0, edition="CPU"), CONTENT),
    ("payload-elsewhere", rims(0, payload_type="indirect"), CONTENT),
    ("meta-twice", rims(0, inside="<ns0:Meta></ns0:Meta>"), CONTENT),
    ("payload-twice", rims(0, inside="<ns0:Payload></ns0:Payload>"), CONTENT),
    ("payload-empty", rims(0, payload=""), CONTENT),
    ("payload-inactive", rims(0, payload=fake.resource(0, [ZERO], False)), CONTENT),
    ("payload-of-another-type", rims(0, payload=fake.resource(0, [ZERO], True, type="File")), CONTENT),
    ("index-twice", rims(0, payload=fake.resource(0, [ZERO], True) * 2), CONTENT),
    ("index-255", rims(0, payload=fake.resource(255, [ZERO], True)), CONTENT),
    ("index-negative", rims(0, payload=fake.resource(0, [ZERO], True, index="-1")), CONTENT),
    ("index-leading-zero", rims(0, payload=fake.resource(0, [ZERO], True, index="01")), CONTENT),
    ("active-lower-case", rims(0, payload=fake.resource(0, [ZERO], True, active="true")), CONTENT),
    ("alternatives-none", rims(0, payload=fake.resource(0, [], True)), CONTENT),
    ("alternatives-fewer-than-counted", rims(0, payload=fake.resource(0, [ZERO], True, alternatives="2")), CONTENT),
    ("alternatives-more-than-counted", rims(0, payload=fake.resource(0, [ZERO, ZERO], True, alternatives="1")), CONTENT),
    ("hash-short", rims(0, payload=fake.resource(0, [bytes(32)], True)), CONTENT),
    ("hash-not-hexadecimal", rims(0, payload=fake.resource(0, [ZERO], True, **{"ns2:Hash0": "g" * 96})), CONTENT),
    ("size-32", rims(0, payload=fake.resource(0, [ZERO], True, size="32")), CONTENT),
]  # fmt: skip


def emptied(parts: Parts) -> None:
    parts.rims[0] = re.sub(rb"<ds:X509Certificate>[^<]*</ds:X509Certificate>", b"", parts.rims[0])


def doubled(parts: Parts) -> None:
    """A second, empty signature beside the genuine one."""
    found = rim(GPU, False)
    document = found.document()
    parts.rims[0] = (document + found.signature(document) * 2 + "</SoftwareIdentity>").encode()


def wrapped(parts: Parts) -> None:
    """The genuine document inside another one that says what the attacker wants."""
    genuine_rim = parts.rims[0].decode()
    evil = rim(GPU, False, values=golden(False, {0: [digest("evil")]}))
    parts.rims[0] = f"{evil.document()}{genuine_rim}</SoftwareIdentity>".encode()


def deeper(parts: Parts) -> None:
    found = rim(GPU, False)
    document = found.document()
    parts.rims[0] = f"{document}<a>{found.signature(document)}</a></SoftwareIdentity>".encode()


def alone(parts: Parts) -> None:
    found = rim(GPU, False)
    parts.rims[0] = found.signature(found.document()).encode()


REVOCATION = "nvidia.revocation"
OCSPS = [
    ("answer-missing-device", without(this_brom), MISSING),
    ("answer-missing-provisioner", without(provisioner), MISSING),
    ("answer-missing-identity-ca", without(identity_ca), MISSING),
    ("answer-missing-rim-signer", without(lambda: rim_chain()[0]), MISSING),
    ("answers-missing", lambda p: p.ocsp.clear(), MISSING),
    ("answer-about-another-serial", answers(this_brom, serial=7), MISSING),
    ("answer-about-another-issuer", answers(this_brom, about_issuer=identity_ca), MISSING),
    ("revoked-device", answers(this_brom, status="revoked"), f"{REVOCATION}.revoked"),
    ("revoked-provisioner", answers(provisioner, status="revoked"), f"{REVOCATION}.revoked"),
    ("revoked-rim-signer", answers(lambda: rim_chain()[0], status="revoked"), f"{REVOCATION}.revoked"),
    ("certificate-hold", answers(this_brom, status="hold"), f"{REVOCATION}.certificate_hold"),
    ("status-unknown", answers(this_brom, status="unknown"), f"{REVOCATION}.unknown"),
    ("revoked-beside-a-good-answer", also(this_brom, status="revoked"), f"{REVOCATION}.revoked"),
    ("revoked-in-a-stale-answer", also(this_brom, status="revoked", next_update=AT - YEAR), f"{REVOCATION}.revoked"),
    ("answer-stale", answers(this_brom, next_update=AT - SECOND), f"{REVOCATION}.stale"),
    ("answer-without-an-end", answers(this_brom, next_update=None), f"{REVOCATION}.stale"),
    ("answer-not-yet-valid", answers(this_brom, this_update=AT + SECOND), f"{REVOCATION}.not_yet_valid"),
    ("answer-too-old", answers(this_brom, this_update=AT - timedelta(days=3) - SECOND), f"{REVOCATION}.too_old"),
    ("answers-too-many", lambda p: p.ocsp.extend([fake.ocsp(GPU.brom)] * 4), f"{REVOCATION}.too_many"),
    ("answer-changed", answers(this_brom, signed=b"something else"), f"{REVOCATION}.signature"),
    ("responder-of-another-authority", answers(this_brom, by=lambda: fake.responder(rim_chain()[1])), f"{REVOCATION}.responder"),
    ("responder-of-another-root", answers(this_brom, by=lambda: fake.responder(provisioner("GH100", "impostor/"))), (
        f"{REVOCATION}.signature")),
    ("responder-not-for-ocsp", answers(this_brom, by=lambda: fake.appointed(provisioner(), purposes=("1.3.6.1.5.5.7.3.1",))), (
        f"{REVOCATION}.responder")),
    ("responder-without-purpose", answers(this_brom, by=lambda: fake.appointed(provisioner(), purposes=())), f"{REVOCATION}.responder"),
    ("responder-expired", answers(this_brom, by=lambda: fake.appointed(provisioner(), not_after=AT - SECOND)), f"{REVOCATION}.expired"),
    ("responder-not-for-signatures", answers(this_brom, by=lambda: fake.appointed(provisioner(), usages=(2,))), (
        f"{REVOCATION}.responder")),
    ("responder-is-the-device", answers(this_brom, by=this_brom), f"{REVOCATION}.responder"),
    ("responder-left-out", answers(this_brom, certificates=[]), f"{REVOCATION}.responder"),
    ("responder-of-the-root", answers(this_brom, by=lambda: fake.responder(fake.device_root())), None),
    ("responder-is-the-issuer", answers(this_brom, by=provisioner, certificates=[]), None),
    ("ocsp-trailing-garbage", lambda p: p.ocsp.__setitem__(0, p.ocsp[0] + b"\0"), OCSP),
    ("ocsp-empty", lambda p: p.ocsp.append(b""), OCSP),
    ("ocsp-try-later", answers(this_brom, response_status=b"\3"), OCSP),
    ("ocsp-of-another-type", answers(this_brom, kind="1.2.3"), "parse: nvidia.ocsp.unsupported"),
    ("ocsp-critical-extension", answers(this_brom, extensions=[("1.2.3", True, asn1.NULL)]), "parse: nvidia.ocsp.unsupported"),
    ("ocsp-sha1", answers(this_brom, hash="sha1"), "parse: nvidia.ocsp.unsupported"),
    ("ocsp-status-of-another-kind", answers(this_brom, status="other"), OCSP),
    ("ocsp-single-critical-extension", answers(
        this_brom, single_extensions=fake.tlv(0xA1, asn1.extensions([("1.2.3", True, asn1.NULL)]))), "parse: nvidia.ocsp.unsupported"),
    ("ocsp-single-extension", answers(
        this_brom, single_extensions=fake.tlv(0xA1, asn1.extensions([("1.2.3", False, asn1.NULL)]))), None),
    ("ocsp-signature-of-odd-bits", answers(this_brom, unused=1), OCSP),
    ("ocsp-too-many-answers", answers(this_brom, times=65), OCSP),
    ("ocsp-without-answers", answers(this_brom, singles=fake.sequence()), OCSP),
    ("ocsp-version-2", answers(this_brom, responder_id=fake.tlv(0xA0, asn1.integer(1))), OCSP),
    ("ocsp-too-many-certificates", answers(this_brom, certificates=[GPU.brom.der] * 5), OCSP),
]  # fmt: skip

ALL = [*RIM, *SIGNATURES, *OCSPS]
