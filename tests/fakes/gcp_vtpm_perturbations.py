"""Evidence of a Compute Engine instance gone wrong in one way at a time, by name, with all the codes that the steps must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fakes import asn1, google
from fakes.google import EK_PURPOSE, Authority, Instance, Parts, Scene, identity, intermediate, root
from fakes.pki import AT
from fakes.tpm import private_key
from fakes.tpm_perturbations import BINDING, SHARED, flip

__all__ = ["BINDING", "OLDER", "PERTURBATIONS", "scene"]

Perturb = Callable[[Scene], Parts]
DAY = timedelta(days=1)


def scene(older: bool = False) -> Scene:
    machine = Instance(older=older)
    return Scene(machine, machine.parts(BINDING))


def certificate(**changes: Any) -> Perturb:
    """Another certificate for the same AK, by the genuine authority unless `issuer` says otherwise."""
    return lambda s: replace(s.parts, ak_certificate=s.machine.certificate(**changes))


def names(**changes: Any) -> Perturb:
    """Another instance identity in a genuine certificate."""
    return certificate(identity=identity(**changes))


def raw_identity(change: Callable[[bytes], bytes]) -> Perturb:
    return certificate(identity=change(identity()))


def via(make: Callable[[], Authority], *further: Callable[[], Authority]) -> Perturb:
    """Through another intermediate, and with others beside it."""

    def perturb(s: Scene) -> Parts:
        authority = make()
        others = tuple(found().der for found in further)
        return replace(
            s.parts, ak_certificate=s.machine.certificate(issuer=authority), ak_chain=(authority.der, *others)
        )

    return perturb


def lists(*make: Callable[[], bytes]) -> Perturb:
    return lambda s: replace(s.parts, crls=tuple(found() for found in make))


def impostor() -> Authority:
    return Authority("EK/AK CA Root", label="impostor/")


def other(**changes: Any) -> Callable[[], Authority]:
    """An intermediate of the genuine root that differs in one thing."""
    return lambda: Authority("Another Intermediate", root(), **{"serial": 8, "lists": True, **changes})


def of_another_instance(s: Scene) -> Parts:
    return replace(s.parts, ak_certificate=Instance(google.rsa_tpm("another")).certificate())


def everything_of_another_instance(s: Scene) -> Parts:
    """Genuine in all but the statement: a different key, bound to a different statement."""
    return Instance(google.rsa_tpm("another")).parts(bytes(32))


def ak_of_another_instance(s: Scene) -> Parts:
    return replace(s.parts, ak_public=Instance(google.rsa_tpm("another")).tpm.ak_public)


CERTIFICATE = "gcp-vtpm.certificate."
USAGE, EXTENSION = [f"{CERTIFICATE}usage"], [f"{CERTIFICATE}extension"]
SIGNED = ["key.certify.signature", "quote.signature.invalid"]
NO_CHAIN = "gcp-vtpm.chain."

PERTURBATIONS: dict[str, tuple[Perturb, list[str]]] = {
    # gcp-vtpm.root
    "root-of-another-vendor": (
        lambda s: replace(s.parts, root_certificate=Authority("Other Root").der),
        ["gcp-vtpm.root.unknown", f"{NO_CHAIN}unknown_issuer"],
    ),
    "root-of-the-same-name": (
        lambda s: replace(s.parts, root_certificate=impostor().der),
        ["gcp-vtpm.root.unknown", f"{NO_CHAIN}signature"],
    ),
    "root-of-the-other-hierarchy": (
        lambda s: replace(s.parts, root_certificate=root(older=True).der),
        [f"{NO_CHAIN}unknown_issuer"],
    ),
    "root-is-the-intermediate": (
        lambda s: replace(s.parts, root_certificate=intermediate().der, ak_chain=()),
        ["gcp-vtpm.root.unknown"],
    ),
    "root-signature-flipped": (
        lambda s: replace(s.parts, root_certificate=flip(s.parts.root_certificate)),
        ["gcp-vtpm.root.unknown"],
    ),
    # gcp-vtpm.chain
    "chain-missing": (lambda s: replace(s.parts, ak_chain=()), [f"{NO_CHAIN}unknown_issuer"]),
    "chain-of-the-other-hierarchy": (
        lambda s: replace(s.parts, ak_chain=(intermediate(older=True).der,)),
        [f"{NO_CHAIN}unknown_issuer"],
    ),
    "chain-of-an-impostor": (
        via(lambda: Authority("EK/AK CA Intermediate", impostor(), label="impostor/")),
        [f"{NO_CHAIN}signature"],
    ),
    "chain-swapped": (
        lambda s: replace(s.parts, ak_certificate=s.parts.ak_chain[0], ak_chain=(s.parts.ak_certificate,)),
        [*USAGE, "gcp-vtpm.ak.key"],
    ),
    "chain-self-signed-leaf": (
        lambda s: replace(
            s.parts,
            ak_certificate=s.machine.certificate(
                issuer=Authority("Myself"), signer=s.tpm.ak, subject=google.name("Myself")
            ),
        ),
        [f"{NO_CHAIN}unknown_issuer"],
    ),
    "leaf-signature-flipped": (
        lambda s: replace(s.parts, ak_certificate=flip(s.parts.ak_certificate)),
        [f"{NO_CHAIN}signature"],
    ),
    "leaf-expired": (certificate(not_after=AT - DAY), [f"{NO_CHAIN}expired"]),
    "leaf-not-yet-valid": (certificate(not_before=AT + DAY), [f"{NO_CHAIN}not_yet_valid"]),
    "leaf-with-sha1": (certificate(digest="sha1"), [f"{NO_CHAIN}algorithm"]),
    "leaf-critical-extension": (
        certificate(extensions=(("1.2.3.4", True, b"\x05\x00"),)),
        [f"{NO_CHAIN}critical_extension"],
    ),
    "intermediate-expired": (via(other(not_after=AT - DAY)), [f"{NO_CHAIN}expired"]),
    "intermediate-no-authority": (via(other(ca=False)), [f"{NO_CHAIN}not_a_ca"]),
    "intermediate-may-not-certify": (via(other(usages=(0,))), [f"{NO_CHAIN}not_a_ca"]),
    "intermediate-path-length": (
        via(
            lambda: Authority("Third", Authority("Second", root(), path_length=0)),
            lambda: Authority("Second", root(), path_length=0),
        ),
        [f"{NO_CHAIN}path_length"],
    ),
    # gcp-vtpm.certificate
    "certificate-for-encryption": (certificate(usages=(2,)), USAGE),
    "certificate-for-key-agreement": (certificate(usages=(4,)), USAGE),
    "certificate-for-both": (certificate(usages=(0, 2)), USAGE),
    "certificate-for-commitments": (certificate(usages=(1,)), USAGE),
    "certificate-without-key-usage": (certificate(usages=None), USAGE),
    "certificate-may-certify": (certificate(usages=(0, 5)), USAGE),
    "certificate-of-an-authority": (certificate(ca=True), USAGE),
    "certificate-without-constraints": (certificate(ca=None), USAGE),
    "certificate-for-tls": (certificate(extensions=(google.purposes("1.3.6.1.5.5.7.3.1"),)), USAGE),
    "instance-missing": (certificate(identity=None), [f"{CERTIFICATE}no_instance"]),
    "instance-of-a-test-environment": (
        names(properties=(3, False, True, False, False, False)),
        [f"{CERTIFICATE}not_production"],
    ),
    "instance-without-properties": (names(properties=None), [f"{CERTIFICATE}not_production"]),
    "instance-does-not-say-production": (
        names(properties=(3, None, True, False, False, False)),
        [f"{CERTIFICATE}not_production"],
    ),
    "instance-trailing-garbage": (raw_identity(lambda value: value + b"\0"), EXTENSION),
    "instance-truncated": (raw_identity(lambda value: value[:-1]), EXTENSION),
    "instance-empty": (raw_identity(lambda value: b""), EXTENSION),
    "instance-further-field": (names(further=asn1.tlv(0x0C, b"x")), EXTENSION),
    "instance-further-property": (
        names(properties=(3, True, True, False, False, False, True)),
        EXTENSION,
    ),
    "instance-property-twice": (
        raw_identity(lambda value: value.replace(b"\xa5\x03\x01\x01\x00", b"\xa4\x03\x01\x01\x00")),
        EXTENSION,
    ),
    "instance-boolean-of-one": (
        raw_identity(lambda value: value.replace(b"\xa1\x03\x01\x01\xff", b"\xa1\x03\x01\x01\x01")),
        EXTENSION,
    ),
    "instance-zone-a-region": (names(zone="europe-west4"), EXTENSION),
    "instance-zone-upper-case": (names(zone="Europe-west4-b"), EXTENSION),
    "instance-zone-with-a-path": (names(zone="europe-west4-b/x"), EXTENSION),
    "instance-zone-empty": (names(zone=""), EXTENSION),
    "instance-zone-not-ascii": (names(zone="europe-west4-ß"), EXTENSION),
    "instance-name-with-a-line-break": (names(instance_name="gpu\nnode"), EXTENSION),
    "instance-name-empty": (names(instance_name=""), EXTENSION),
    "instance-name-too-long": (names(instance_name="x" * 129), EXTENSION),
    "instance-id-negative": (names(instance_id=-1), EXTENSION),
    "instance-id-of-65-bits": (names(instance_id=2**64), EXTENSION),
    "instance-project-number-negative": (names(project_number=-1), EXTENSION),
    "instance-security-version-negative": (
        names(properties=(-1, True, True, False, False, False)),
        EXTENSION,
    ),
    # gcp-vtpm.ak
    "certificate-of-another-instance": (of_another_instance, ["gcp-vtpm.ak.key"]),
    "certificate-for-another-key": (
        certificate(key=private_key("p256", "google/another key").public_key()),
        ["gcp-vtpm.ak.key"],
    ),
    "ak-of-another-instance": (ak_of_another_instance, ["gcp-vtpm.ak.key", *SIGNED]),
    "everything-of-another-instance": (everything_of_another_instance, ["quote.binding.mismatch"]),
    # gcp-vtpm.revocation
    "list-missing": (lists(), ["gcp-vtpm.revocation.missing"]),
    "list-of-another-authority": (
        lists(lambda: Authority("Other Root").revoke()),
        ["gcp-vtpm.revocation.missing"],
    ),
    "list-of-an-impostor": (lists(lambda: impostor().revoke()), ["gcp-vtpm.revocation.signature"]),
    "list-stale": (
        lists(lambda: root().revoke(this_update=AT - 2 * DAY, next_update=AT - DAY)),
        ["gcp-vtpm.revocation.stale"],
    ),
    "list-of-the-future": (
        lists(lambda: root().revoke(this_update=AT + DAY)),
        ["gcp-vtpm.revocation.not_yet_valid"],
    ),
    "intermediate-revoked": (lists(lambda: root().revoke(7)), ["gcp-vtpm.revocation.revoked"]),
    # form
    "item-unknown-key": (
        lambda s: replace(s.parts, further={"ek_certificate": "AAAA"}),
        ["parse: gcp-vtpm.item"],
    ),
    "item-without-root": (
        lambda s: replace(s.parts, further={"root_certificate": None}),
        ["parse: gcp-vtpm.item"],
    ),
    "item-of-another-kind": (lambda s: replace(s.parts, further={"kind": "tpm2"}), ["parse: gcp-vtpm.item"]),
    "item-chain-of-five": (
        lambda s: replace(s.parts, ak_chain=s.parts.ak_chain * 5),
        ["parse: gcp-vtpm.item"],
    ),
    "item-chain-not-an-array": (
        lambda s: replace(s.parts, further={"ak_chain": "AAAA"}),
        ["parse: gcp-vtpm.item"],
    ),
    "item-five-lists": (lambda s: replace(s.parts, crls=s.parts.crls * 5), ["parse: gcp-vtpm.item"]),
    "item-certificate-padded": (
        lambda s: replace(s.parts, ak_certificate=s.parts.ak_certificate + b"\xff" * 8),
        ["parse: x509.encoding"],
    ),
} | SHARED

OLDER: dict[str, tuple[Perturb, list[str]]] = {
    "older-leaf-revoked": (
        lists(lambda: root(older=True).revoke(), lambda: intermediate(older=True).revoke(0x99)),
        ["gcp-vtpm.revocation.revoked"],
    ),
    "older-list-of-the-leaf-missing": (
        lists(lambda: root(older=True).revoke()),
        ["gcp-vtpm.revocation.missing"],
    ),
    "older-list-of-the-intermediate-missing": (
        lists(lambda: intermediate(older=True).revoke()),
        ["gcp-vtpm.revocation.missing"],
    ),
    "older-certificate-for-encryption": (certificate(usages=(2,)), USAGE),
    "older-chain-too-deep": (
        via(
            lambda: Authority("Third", intermediate(older=True)),
            lambda: intermediate(older=True),
        ),
        [f"{NO_CHAIN}path_length"],
    ),
    "older-subject-name-of-an-ek": (
        certificate(usages=(4,), extensions=(google.purposes(EK_PURPOSE), google.tpm_name())),
        USAGE,
    ),
}
"""The same over an instance of Google's older hierarchy."""
