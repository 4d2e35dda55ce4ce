"""TPM evidence gone wrong in one way at a time, by name, with the codes that the steps must give: all of them, in the order of the steps.

The verifier's own tests and the mutation run use the same table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from fakes import machine as machines
from fakes.machine import Machine, Parts, TpmParts
from fakes.pki import AT, YEAR, Authority
from fakes.tpm import FakeTpm, private_key
from fakes.tpm_perturbations import AK, BINDING, KEY, SHARED, TpmScene, flip


@dataclass
class Scene(TpmScene):
    machine: Machine
    parts: Parts

    def vouched(self, parts: TpmParts, name_alg: str) -> TpmParts:
        name = self.tpm.name(self.tpm.ak_public, name_alg)
        endorsed = replace(self.machine.endorsed, ak_name=name)
        certificate = machines.registrar().certify_ak(endorsed, self.tpm.ak.public_key())
        return replace(parts, ak_certificate=certificate)  # type: ignore[call-arg]

    def with_ek(
        self, authority: Authority | None = None, chain: tuple[bytes, ...] | None = None, **changes: Any
    ) -> Parts:
        """Another certificate for the same EK."""
        authority = authority or machines.vendor_intermediate()
        certificate = authority.certify_ek(self.tpm.ek.public_key(), **changes)
        return replace(
            self.parts, ek_certificate=certificate, ek_chain=(authority.der,) if chain is None else chain
        )

    def with_endorsement(self, **changes: Any) -> Parts:
        endorsed = replace(self.machine.endorsed, **changes)
        return replace(
            self.parts, ak_certificate=machines.registrar().certify_ak(endorsed, self.tpm.ak.public_key())
        )


def other_tpm() -> Machine:
    return Machine(FakeTpm("another"))


def swap_order(parts: Parts) -> Parts:
    return replace(parts, ek_certificate=parts.ek_chain[0], ek_chain=(parts.ek_certificate,))


def intermediate(**changes: Any) -> Authority:
    return Authority("Vendor TPM Intermediate", "p256", issuer=machines.vendor_root(), **changes)


def via(scene: Scene, authority: Authority) -> Parts:
    return scene.with_ek(authority)


def two_intermediates(scene: Scene) -> Parts:
    upper = Authority("Upper", "p256", issuer=machines.vendor_root(), path_length=0)
    lower = Authority("Lower", "p256", issuer=upper)
    return scene.with_ek(lower, (lower.der, upper.der))


def endless_chain(scene: Scene) -> Parts:
    authority, chain = machines.vendor_root(), []
    for number in range(8):
        authority = Authority(f"Level {number}", "p256", issuer=authority)
        chain.append(authority.der)
    return scene.with_ek(authority, tuple(chain))


def weak_intermediate(scene: Scene) -> Parts:
    return scene.with_ek(Authority("Weak", "rsa1024", issuer=machines.vendor_root()))


def ak_certificate_by(scene: Scene, name: str) -> Parts:
    certificate = machines.FakeRegistrar(name).certify_ak(scene.machine.endorsed, scene.tpm.ak.public_key())
    return replace(scene.parts, ak_certificate=certificate)


def ak_certificate_for_another_key(scene: Scene) -> Parts:
    key = private_key("p256", "a key outside the TPM").public_key()
    return replace(scene.parts, ak_certificate=machines.registrar().certify_ak(scene.machine.endorsed, key))


def ak_certificate_dates(scene: Scene, start: timedelta, end: timedelta) -> Parts:
    registrar = machines.registrar()
    made = registrar.certify_ak(scene.machine.endorsed, scene.tpm.ak.public_key(), AT + start, AT + end)
    return replace(scene.parts, ak_certificate=made)


def other_ak_certificate(scene: Scene, **changes: Any) -> Parts:
    made = machines.registrar().certify_ak_otherwise(
        scene.machine.endorsed, scene.tpm.ak.public_key(), **changes
    )
    return replace(scene.parts, ak_certificate=made)


def registrar_as_ak_certificate(scene: Scene) -> Parts:
    return replace(scene.parts, ak_certificate=scene.machine.ek_certificate, ak_chain=scene.parts.ek_chain)


def everything_of_another_tpm_but_the_ek(scene: Scene) -> Parts:
    return replace(
        other_tpm().parts(BINDING), ek_certificate=scene.parts.ek_certificate, ek_chain=scene.parts.ek_chain
    )


__all__ = ["AK", "BINDING", "KEY", "PERTURBATIONS", "Scene", "flip"]

PERTURBATIONS: dict[str, tuple[Callable[[Scene], Parts], list[str]]] = {
    # ek.chain
    "ek-chain-missing": (lambda s: replace(s.parts, ek_chain=()), ["ek.chain.unknown_issuer"]),
    "ek-chain-of-another-vendor": (
        lambda s: s.with_ek(Authority("Other Vendor", "p256")),
        ["ek.chain.unknown_issuer"],
    ),
    "ek-chain-root-of-the-same-name": (
        lambda s: s.with_ek(Authority("Fake", "p256", issuer=Authority("Vendor TPM Root", "p256"))),
        ["ek.chain.algorithm"],
    ),
    "ek-chain-intermediate-of-the-same-name": (
        lambda s: replace(
            s.parts,
            ek_chain=(Authority("Vendor TPM Intermediate", "p384", issuer=machines.vendor_root()).der,),
        ),
        ["ek.chain.signature"],
    ),
    "ek-chain-swapped": (lambda s: swap_order(s.parts), ["ek.chain.usage", "ak.certificate.ek_spki"]),
    "ek-certificate-signature-flipped": (
        lambda s: replace(s.parts, ek_certificate=flip(s.parts.ek_certificate)),
        ["ek.chain.signature"],
    ),
    "ek-certificate-expired": (lambda s: s.with_ek(not_after=AT - timedelta(days=1)), ["ek.chain.expired"]),
    "ek-certificate-not-yet-valid": (
        lambda s: s.with_ek(not_before=AT + timedelta(days=1)),
        ["ek.chain.not_yet_valid"],
    ),
    "ek-intermediate-expired": (
        lambda s: via(s, intermediate(not_after=AT - timedelta(days=1))),
        ["ek.chain.expired"],
    ),
    "ek-intermediate-is-no-authority": (lambda s: via(s, intermediate(ca=False)), ["ek.chain.not_a_ca"]),
    "ek-intermediate-may-not-sign-certificates": (
        lambda s: via(s, intermediate(key_usage=("digital_signature",))),
        ["ek.chain.not_a_ca"],
    ),
    "ek-intermediate-path-length": (two_intermediates, ["ek.chain.path_length"]),
    "ek-chain-too-long": (endless_chain, ["ek.chain.too_long"]),
    "ek-intermediate-weak-key": (weak_intermediate, ["ek.chain.weak_key"]),
    "ek-certificate-unknown-critical-extension": (
        lambda s: s.with_ek(unknown_critical=True),
        ["ek.chain.critical_extension"],
    ),
    "ek-certificate-for-signing": (lambda s: s.with_ek(key_usage=("digital_signature",)), ["ek.chain.usage"]),
    "ek-certificate-for-tls": (lambda s: s.with_ek(purposes=("1.3.6.1.5.5.7.3.1",)), ["ek.chain.usage"]),
    "ek-certificate-of-an-authority": (lambda s: s.with_ek(ca=True), ["ek.chain.usage"]),
    "ek-of-another-tpm": (
        lambda s: replace(s.parts, ek_certificate=other_tpm().ek_certificate),
        ["ak.certificate.ek_spki"],
    ),
    "ek-beside-another-tpm": (everything_of_another_tpm_but_the_ek, ["ak.certificate.ek_spki"]),
    # ak.certificate
    "ak-certificate-by-unknown-registrar": (
        lambda s: ak_certificate_by(s, "someone"),
        ["ak.certificate.unknown_issuer"],
    ),
    "ak-certificate-signature-flipped": (
        lambda s: replace(s.parts, ak_certificate=flip(s.parts.ak_certificate)),
        ["ak.certificate.signature"],
    ),
    "ak-certificate-expired": (
        lambda s: ak_certificate_dates(s, -YEAR, -timedelta(days=1)),
        ["ak.certificate.expired"],
    ),
    "ak-certificate-not-yet-valid": (
        lambda s: ak_certificate_dates(s, timedelta(days=1), YEAR),
        ["ak.certificate.not_yet_valid"],
    ),
    "ak-certificate-for-another-key": (ak_certificate_for_another_key, ["ak.certificate.key"]),
    "ak-certificate-other-ak-name": (
        lambda s: s.with_endorsement(ak_name=b"\x00\x0b" + bytes(32)),
        ["ak.certificate.ak_name"],
    ),
    "ak-certificate-other-ek": (
        lambda s: s.with_endorsement(ek_spki_sha256=bytes(32)),
        ["ak.certificate.ek_spki"],
    ),
    "ak-certificate-is-the-ek-certificate": (registrar_as_ak_certificate, ["ak.certificate.unknown_issuer"]),
    "ak-certificate-without-purpose": (
        lambda s: other_ak_certificate(s, purposes=None),
        ["ak.certificate.usage"],
    ),
    "ak-certificate-for-an-ek": (
        lambda s: other_ak_certificate(s, purposes=("2.23.133.8.1",)),
        ["ak.certificate.usage"],
    ),
    "ak-certificate-of-an-authority": (
        lambda s: other_ak_certificate(s, ca=True),
        ["ak.certificate.usage"],
    ),
    "ak-certificate-without-constraints": (
        lambda s: other_ak_certificate(s, ca=None),
        ["ak.certificate.usage"],
    ),
    "ak-certificate-not-for-signatures": (
        lambda s: other_ak_certificate(s, key_usage=("key_encipherment",)),
        ["ak.certificate.usage"],
    ),
    "ak-certificate-without-endorsement": (
        lambda s: other_ak_certificate(s, endorse=False),
        ["ak.certificate.extension"],
    ),
    "ak-of-another-tpm": (
        lambda s: replace(s.parts, ak_public=other_tpm().tpm.ak_public),
        ["ak.certificate.key", "key.certify.signature", "quote.signature.invalid"],
    ),
} | SHARED
