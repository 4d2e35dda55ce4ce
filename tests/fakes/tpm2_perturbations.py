"""TPM evidence gone wrong in one way at a time, by name, with the codes that the steps must give: all of them, in the order of the steps.

The verifier's own tests and the mutation run use the same table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from fakes import machine as machines
from fakes import tpm_marshal as marshal
from fakes.machine import PCRS, Machine, Parts
from fakes.pki import AT, YEAR, Authority
from fakes.tpm import FakeTpm, private_key
from rlu_attestation import merkle

BINDING = hashlib.sha256(b"a statement").digest()


@dataclass
class Scene:
    """What a perturbation works on."""

    machine: Machine
    parts: Parts

    @property
    def tpm(self) -> FakeTpm:
        return self.machine.tpm

    def quote(self, extra_data: bytes = merkle.leaf_hash(BINDING), **changes: Any) -> tuple[bytes, bytes]:
        return self.tpm.quote(self.machine.selected, extra_data, **changes)

    @property
    def signer(self) -> bytes:
        return self.tpm.qualified_name(self.tpm.ak_public)

    def with_key(self, **changes: Any) -> Parts:
        """Another public area for the instance key, certified as it should be."""
        public = self.tpm.create_key(self.machine.selected, **changes)
        return replace(self.parts, key_public=public, certify=self.tpm.certify(public))

    def with_ak(self, **changes: Any) -> Parts:
        """Another public area for the AK, endorsed and used as it should be."""
        self.tpm.ak_public = self.tpm.make_ak_public(**changes)
        endorsed = replace(self.machine.endorsed, ak_name=self.tpm.name(self.tpm.ak_public))
        certificate = machines.registrar().certify_ak(endorsed, self.tpm.ak.public_key())
        return replace(
            self.parts,
            ak_public=self.tpm.ak_public,
            ak_certificate=certificate,
            certify=self.tpm.certify(),
            quote=self.quote(),
        )

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


def flip(data: bytes, position: int = -1) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 0x01
    return bytes(changed)


def other_tpm() -> Machine:
    return Machine(FakeTpm("another"))


def swap_order(parts: Parts) -> Parts:
    return replace(parts, ek_certificate=parts.ek_chain[0], ek_chain=(parts.ek_certificate,))


def unselected_pcr(scene: Scene) -> Parts:
    values = {"sha256": dict(scene.parts.pcrs["sha256"]) | {9: bytes(32)}}
    return replace(scene.parts, pcrs=values)


def missing_pcr(scene: Scene) -> Parts:
    values = dict(scene.parts.pcrs["sha256"])
    del values[7]
    return replace(scene.parts, pcrs={"sha256": values})


def wrong_pcr(scene: Scene) -> Parts:
    values = dict(scene.parts.pcrs["sha256"])
    values[3] = flip(values[3])
    return replace(scene.parts, pcrs={"sha256": values})


def swapped_pcrs(scene: Scene) -> Parts:
    values = dict(scene.parts.pcrs["sha256"])
    values[1], values[2] = values[2], values[1]
    return replace(scene.parts, pcrs={"sha256": values})


def state_changed_after_the_key_was_made(scene: Scene) -> Parts:
    scene.tpm.measure(4, b"another kernel")
    return replace(scene.machine.parts(BINDING), certify=scene.parts.certify)


def no_pcrs(scene: Scene) -> Parts:
    quote = scene.tpm.quote({"sha256": ()}, merkle.leaf_hash(BINDING))
    return replace(scene.parts, quote=quote, pcrs={}, event_log=None)


def log_of_another_boot(scene: Scene) -> Parts:
    scene.tpm.events.append((2, 1, b"an option ROM that was not measured"))
    return replace(scene.parts, event_log=scene.tpm.event_log())


def log_without_an_event(scene: Scene) -> Parts:
    scene.tpm.events.pop(0)
    return replace(scene.parts, event_log=scene.tpm.event_log())


def log_without_a_pcr(scene: Scene) -> Parts:
    scene.tpm.events[:] = [event for event in scene.tpm.events if event[0] != 4]
    return replace(scene.parts, event_log=scene.tpm.event_log())


def log_of_other_pcrs(scene: Scene) -> Parts:
    scene.tpm.events[:] = [(9, 1, b"a boot loader")]
    return replace(scene.parts, event_log=scene.tpm.event_log())


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


def ak_named_with_sha1(scene: Scene) -> Parts:
    parts = scene.with_ak(name_alg="sha1")
    name = scene.tpm.name(parts.ak_public, "sha1")
    return replace(parts, ak_certificate=scene.with_endorsement(ak_name=name).ak_certificate)


def registrar_as_ak_certificate(scene: Scene) -> Parts:
    return replace(scene.parts, ak_certificate=scene.machine.ek_certificate, ak_chain=scene.parts.ek_chain)


def signature_of_zero(scene: Scene) -> tuple[bytes, bytes]:
    zero = marshal.u16(marshal.ECDSA) + marshal.u16(0x0B) + marshal.sized(b"") + marshal.sized(b"")
    return scene.parts.quote[0], zero


def forged_scheme(scene: Scene, scheme: int, digest: str) -> tuple[bytes, bytes]:
    attest, signature = scene.parts.quote
    return attest, marshal.u16(scheme) + marshal.u16(marshal.ALG[digest]) + signature[4:]


def key_without_policy(scene: Scene) -> Parts:
    return scene.with_key(auth_policy=b"")


def key_bound_to_pcrs_only(scene: Scene) -> Parts:
    pcr = marshal.u32(0x17F) + marshal.selection(PCRS) + scene.tpm.pcr_digest(PCRS, "sha256")
    return scene.with_key(auth_policy=hashlib.sha256(bytes(32) + pcr).digest())


def key_bound_to_other_pcrs(scene: Scene) -> Parts:
    return scene.with_key(auth_policy=scene.tpm.policy({"sha256": (0, 1, 2)}))


def quote_of_fewer_pcrs(scene: Scene) -> Parts:
    fewer = {"sha256": (0, 1, 2)}
    quote = scene.tpm.quote(fewer, merkle.leaf_hash(BINDING))
    return replace(scene.parts, quote=quote, pcrs=scene.tpm.values(fewer))


def key_on_p384(scene: Scene) -> Parts:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    public = marshal.public(
        key,
        attributes=marshal.KEY_ATTRIBUTES,
        scheme=(marshal.ECDSA, "sha256"),
        auth_policy=scene.tpm.policy(PCRS),
    )
    return replace(scene.parts, key_public=public, certify=scene.tpm.certify(public))


def key_is_rsa(scene: Scene) -> Parts:
    public = marshal.public(
        private_key("rsa2048", "rsa instance key").public_key(),
        attributes=marshal.KEY_ATTRIBUTES,
        scheme=(marshal.RSASSA, "sha256"),
        auth_policy=scene.tpm.policy(PCRS),
    )
    return replace(scene.parts, key_public=public, certify=scene.tpm.certify(public))


def everything_of_another_tpm_but_the_ek(scene: Scene) -> Parts:
    return replace(
        other_tpm().parts(BINDING), ek_certificate=scene.parts.ek_certificate, ek_chain=scene.parts.ek_chain
    )


AK, KEY = marshal.AK_ATTRIBUTES, marshal.KEY_ATTRIBUTES
QUOTE_SIGNATURE, CERTIFY_SIGNATURE = ["quote.signature.invalid"], ["key.certify.signature"]

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
    # ak.attributes
    "ak-not-restricted": (lambda s: s.with_ak(attributes=AK & ~marshal.RESTRICTED), ["ak.attributes.flags"]),
    "ak-not-fixed-tpm": (lambda s: s.with_ak(attributes=AK & ~marshal.FIXED_TPM), ["ak.attributes.flags"]),
    "ak-not-fixed-parent": (
        lambda s: s.with_ak(attributes=AK & ~marshal.FIXED_PARENT),
        ["ak.attributes.flags"],
    ),
    "ak-imported": (
        lambda s: s.with_ak(attributes=AK & ~marshal.SENSITIVE_DATA_ORIGIN),
        ["ak.attributes.flags"],
    ),
    "ak-does-not-sign": (lambda s: s.with_ak(attributes=AK & ~marshal.SIGN), ["ak.attributes.flags"]),
    "ak-decrypts": (lambda s: s.with_ak(attributes=AK | marshal.DECRYPT), ["ak.attributes.flags"]),
    "ak-without-scheme": (
        lambda s: s.with_ak(scheme=None),
        ["ak.attributes.scheme", "key.certify.signature", "quote.signature.invalid"],
    ),
    "ak-for-key-exchange": (
        lambda s: s.with_ak(scheme=(0x0019, "sha256")),
        ["ak.attributes.scheme", "key.certify.signature", "quote.signature.invalid"],
    ),
    "ak-with-symmetric-cipher": (
        lambda s: s.with_ak(symmetric=bytes.fromhex("000600800043")),
        ["ak.attributes.scheme"],
    ),
    "ak-named-with-sha1": (ak_named_with_sha1, ["ak.attributes.strength"]),
    # key.attributes
    "key-usable-without-policy": (
        lambda s: s.with_key(attributes=KEY | marshal.USER_WITH_AUTH),
        ["key.attributes.flags"],
    ),
    "key-not-fixed-tpm": (
        lambda s: s.with_key(attributes=KEY & ~marshal.FIXED_TPM),
        ["key.attributes.flags"],
    ),
    "key-not-fixed-parent": (
        lambda s: s.with_key(attributes=KEY & ~marshal.FIXED_PARENT),
        ["key.attributes.flags"],
    ),
    "key-imported": (
        lambda s: s.with_key(attributes=KEY & ~marshal.SENSITIVE_DATA_ORIGIN),
        ["key.attributes.flags"],
    ),
    "key-decrypts": (lambda s: s.with_key(attributes=KEY | marshal.DECRYPT), ["key.attributes.flags"]),
    "key-restricted": (lambda s: s.with_key(attributes=KEY | marshal.RESTRICTED), ["key.attributes.flags"]),
    "key-under-lockout": (lambda s: s.with_key(attributes=KEY & ~marshal.NO_DA), ["key.attributes.flags"]),
    "key-scheme-sha384": (
        lambda s: s.with_key(scheme=(marshal.ECDSA, "sha384")),
        ["key.attributes.algorithm"],
    ),
    "key-named-with-sha384": (
        lambda s: s.with_key(name_alg="sha384", auth_policy=bytes(48)),
        ["key.attributes.algorithm", "key.policy.mismatch", "key.certify.name"],
    ),
    "key-with-symmetric-cipher": (
        lambda s: s.with_key(symmetric=bytes.fromhex("000600800043")),
        ["key.attributes.algorithm"],
    ),
    "key-is-rsa": (key_is_rsa, ["key.attributes.algorithm"]),
    "key-on-p384": (key_on_p384, ["key.attributes.algorithm"]),
    # key.policy
    "key-without-policy": (key_without_policy, ["key.policy.mismatch"]),
    "key-bound-to-pcrs-only": (key_bound_to_pcrs_only, ["key.policy.mismatch"]),
    "key-bound-to-other-pcrs": (key_bound_to_other_pcrs, ["key.policy.mismatch"]),
    "key-bound-to-more-pcrs-than-quoted": (quote_of_fewer_pcrs, ["key.policy.mismatch"]),
    "state-changed-since-key-was-made": (state_changed_after_the_key_was_made, ["key.policy.mismatch"]),
    # key.certify
    "certify-of-another-key": (
        lambda s: replace(s.parts, certify=s.tpm.certify(s.tpm.ak_public)),
        ["key.certify.name"],
    ),
    "certify-with-qualifying-data": (
        lambda s: replace(s.parts, certify=s.tpm.certify(extra_data=b"x")),
        ["key.certify.extra_data"],
    ),
    "certify-is-a-quote": (lambda s: replace(s.parts, certify=s.parts.quote), ["key.certify.type"]),
    "certify-signature-flipped": (
        lambda s: replace(s.parts, certify=(s.parts.certify[0], flip(s.parts.certify[1]))),
        CERTIFY_SIGNATURE,
    ),
    "certify-by-another-tpm": (
        lambda s: replace(s.parts, certify=other_tpm().tpm.certify(s.parts.key_public, signer=s.signer)),
        CERTIFY_SIGNATURE,
    ),
    # quote.signature
    "quote-signature-flipped": (
        lambda s: replace(s.parts, quote=(s.parts.quote[0], flip(s.parts.quote[1]))),
        QUOTE_SIGNATURE,
    ),
    "quote-signature-of-zero": (lambda s: replace(s.parts, quote=signature_of_zero(s)), QUOTE_SIGNATURE),
    "quote-by-another-tpm": (
        lambda s: replace(s.parts, quote=Scene(other_tpm(), s.parts).quote(signer=s.signer)),
        QUOTE_SIGNATURE,
    ),
    "quote-signed-by-the-certification": (
        lambda s: replace(s.parts, quote=(s.parts.quote[0], s.parts.certify[1])),
        QUOTE_SIGNATURE,
    ),
    "quote-hash-forged": (
        lambda s: replace(s.parts, quote=forged_scheme(s, marshal.ECDSA, "sha384")),
        ["quote.signature.invalid", "quote.pcrs.digest"],
    ),
    "quote-hash-sha1": (
        lambda s: replace(s.parts, quote=forged_scheme(s, marshal.ECDSA, "sha1")),
        ["quote.signature.invalid", "quote.pcrs.digest"],
    ),
    "quote-is-a-certification": (
        lambda s: replace(s.parts, quote=s.parts.certify),
        ["key.policy.type", "quote.signature.type", "quote.binding.mismatch", "quote.pcrs.type"],
    ),
    # quote.binding
    "quote-replayed-from-another-statement": (
        lambda s: replace(s.machine.parts(bytes(32)), certify=s.parts.certify),
        ["quote.binding.mismatch"],
    ),
    "quote-without-qualifying-data": (
        lambda s: replace(s.parts, quote=s.quote(extra_data=b"")),
        ["quote.binding.mismatch"],
    ),
    "quote-over-the-bare-binding": (
        lambda s: replace(s.parts, quote=s.quote(extra_data=BINDING)),
        ["quote.binding.mismatch"],
    ),
    "binding-path-too-long": (
        lambda s: replace(s.parts, path=(bytes(32),)),
        ["quote.binding.path"],
    ),
    "binding-path-too-short": (
        lambda s: replace(s.machine.parts(BINDING, (bytes(32),)), path=()),
        ["quote.binding.path"],
    ),
    "binding-other-leaf": (
        lambda s: replace(s.machine.parts(BINDING, (bytes(32),)), leaf_index=0),
        ["quote.binding.mismatch"],
    ),
    # quote.pcrs
    "quote-of-other-values": (
        lambda s: replace(s.parts, quote=s.quote(pcr_digest=hashlib.sha256(b"other").digest())),
        ["quote.pcrs.digest"],
    ),
    "quote-without-digest": (
        lambda s: replace(s.parts, quote=s.quote(pcr_digest=b"")),
        ["quote.pcrs.digest"],
    ),
    "pcr-not-quoted": (unselected_pcr, ["key.policy.selection", "quote.pcrs.selection"]),
    "pcr-missing": (missing_pcr, ["key.policy.selection", "quote.pcrs.selection"]),
    "pcr-value-flipped": (
        wrong_pcr,
        ["key.policy.mismatch", "quote.pcrs.digest", "quote.eventlog.mismatch"],
    ),
    "pcr-values-swapped": (
        swapped_pcrs,
        ["key.policy.mismatch", "quote.pcrs.digest", "quote.eventlog.mismatch"],
    ),
    "no-pcrs": (no_pcrs, ["key.policy.mismatch", "quote.pcrs.empty"]),
    # quote.clock
    "quote-after-reset": (lambda s: replace(s.parts, quote=s.quote(reset_count=8)), ["quote.clock.reset"]),
    "quote-by-other-firmware": (
        lambda s: replace(s.parts, quote=s.quote(firmware=1)),
        ["quote.clock.firmware"],
    ),
    "quote-of-another-hierarchy": (
        lambda s: replace(s.parts, quote=s.quote(signer=b"\x00\x0b" + bytes(32))),
        ["quote.clock.signer"],
    ),
    # quote.eventlog
    "event-log-with-a-further-event": (log_of_another_boot, ["quote.eventlog.mismatch"]),
    "event-log-without-an-event": (log_without_an_event, ["quote.eventlog.mismatch"]),
    "event-log-of-other-pcrs": (log_of_other_pcrs, ["quote.eventlog.mismatch"]),
    "event-log-without-a-pcr": (log_without_a_pcr, ["quote.eventlog.mismatch"]),
}
