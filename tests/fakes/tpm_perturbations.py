"""What goes wrong with evidence of a TPM, whoever vouches for its AK, by name, with all the codes of the shared steps, in their order.

Every kind with a TPM runs this table over its own items: its scene knows how to vouch for another AK.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from fakes import tpm_marshal as marshal
from fakes.ima import FakeIma, entry
from fakes.machine import PCRS, Measured, TpmParts
from fakes.tpm import FakeTpm, private_key
from rlu_attestation import merkle

BINDING = hashlib.sha256(b"a statement").digest()
BOOT = {"sha256": tuple(range(10))}
WITH_IMA = {"sha256": tuple(range(11))}


@dataclass
class TpmScene:
    """What a perturbation works on."""

    machine: Measured
    parts: TpmParts

    @property
    def tpm(self) -> FakeTpm:
        return self.machine.tpm

    def quote(self, extra_data: bytes = merkle.leaf_hash(BINDING), **changes: Any) -> tuple[bytes, bytes]:
        return self.tpm.quote(self.machine.selected, extra_data, **changes)

    @property
    def signer(self) -> bytes:
        return self.tpm.qualified_name(self.tpm.ak_public)

    def with_key(self, **changes: Any) -> TpmParts:
        """Another public area for the instance key, certified as it should be."""
        public = self.tpm.create_key(self.machine.selected, **changes)
        return replace(self.parts, key_public=public, certify=self.tpm.certify(public))

    def with_ak(self, **changes: Any) -> TpmParts:
        """Another public area for the AK, vouched for and used as it should be."""
        self.tpm.ak_public = self.tpm.make_ak_public(**changes)
        used = replace(
            self.parts, ak_public=self.tpm.ak_public, certify=self.tpm.certify(), quote=self.quote()
        )
        return self.vouched(used, str(changes.get("name_alg", "sha256")))

    def vouched(self, parts: TpmParts, name_alg: str) -> TpmParts:
        """The same parts with whatever vouches for the present AK."""
        raise NotImplementedError

    def with_ima(
        self, change: Callable[[FakeIma], None], quoted: dict[str, tuple[int, ...]] = WITH_IMA
    ) -> TpmParts:
        """A kernel measured files since the key was made for the boot PCRs; its list is changed after the quote."""
        self.tpm.create_key(BOOT)
        kernel = FakeIma(self.tpm)
        kernel.measure("/sbin/init", b"init")
        kernel.violate("/var/log/messages")
        kernel.measure("/usr/bin/python3", b"python")
        quote = self.tpm.quote(quoted, merkle.leaf_hash(BINDING))
        values = self.tpm.values(quoted)
        change(kernel)
        return replace(
            self.parts,
            key_public=self.tpm.key_public,
            certify=self.tpm.certify(),
            quote=quote,
            pcrs=values,
            ima_log=kernel.binary(),
        )


def by_another_tpm(scene: TpmScene) -> tuple[bytes, bytes]:
    """A quote that differs in nothing but the key that signed it."""
    other = Measured(FakeTpm("another"))
    return other.tpm.quote(scene.machine.selected, merkle.leaf_hash(BINDING), signer=scene.signer)


def nothing(kernel: FakeIma) -> None:
    """The list as it was when PCR 10 was quoted."""


def more(kernel: FakeIma) -> None:
    kernel.measure("/usr/bin/later", b"later")


def ima_without_an_entry(kernel: FakeIma) -> None:
    del kernel.entries[1]


def ima_of_another_file(kernel: FakeIma) -> None:
    kernel.entries[3] = entry("ima-ng", "/usr/bin/python3", hashlib.sha256(b"another").digest())


def ima_of_another_boot(scene: TpmScene) -> TpmParts:
    """The kernel began its list with a digest that is not that of the boot PCRs quoted."""
    scene.tpm.create_key(BOOT)
    kernel = FakeIma(scene.tpm, aggregated=9)
    return replace(
        scene.parts,
        key_public=scene.tpm.key_public,
        certify=scene.tpm.certify(),
        quote=scene.tpm.quote(WITH_IMA, merkle.leaf_hash(BINDING)),
        pcrs=scene.tpm.values(WITH_IMA),
        ima_log=kernel.binary(),
    )


def key_bound_to_pcr_10(scene: TpmScene) -> TpmParts:
    kernel = FakeIma(scene.tpm)
    scene.tpm.create_key(WITH_IMA)
    return replace(
        scene.parts,
        key_public=scene.tpm.key_public,
        certify=scene.tpm.certify(),
        quote=scene.tpm.quote(WITH_IMA, merkle.leaf_hash(BINDING)),
        pcrs=scene.tpm.values(WITH_IMA),
        ima_log=kernel.binary(),
    )


def flip(data: bytes, position: int = -1) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 0x01
    return bytes(changed)


def unselected_pcr(scene: TpmScene) -> TpmParts:
    values = {"sha256": dict(scene.parts.pcrs["sha256"]) | {9: bytes(32)}}
    return replace(scene.parts, pcrs=values)


def missing_pcr(scene: TpmScene) -> TpmParts:
    values = dict(scene.parts.pcrs["sha256"])
    del values[7]
    return replace(scene.parts, pcrs={"sha256": values})


def wrong_pcr(scene: TpmScene) -> TpmParts:
    values = dict(scene.parts.pcrs["sha256"])
    values[3] = flip(values[3])
    return replace(scene.parts, pcrs={"sha256": values})


def swapped_pcrs(scene: TpmScene) -> TpmParts:
    values = dict(scene.parts.pcrs["sha256"])
    values[1], values[2] = values[2], values[1]
    return replace(scene.parts, pcrs={"sha256": values})


def state_changed_after_the_key_was_made(scene: TpmScene) -> TpmParts:
    scene.tpm.measure(4, b"another kernel")
    return replace(scene.machine.parts(BINDING), certify=scene.parts.certify)


def no_pcrs(scene: TpmScene) -> TpmParts:
    quote = scene.tpm.quote({"sha256": ()}, merkle.leaf_hash(BINDING))
    return replace(scene.parts, quote=quote, pcrs={}, event_log=None)


def log_of_another_boot(scene: TpmScene) -> TpmParts:
    scene.tpm.events.append((2, 1, b"an option ROM that was not measured"))
    return replace(scene.parts, event_log=scene.tpm.event_log())


def log_without_an_event(scene: TpmScene) -> TpmParts:
    scene.tpm.events.pop(0)
    return replace(scene.parts, event_log=scene.tpm.event_log())


def log_without_a_pcr(scene: TpmScene) -> TpmParts:
    scene.tpm.events[:] = [event for event in scene.tpm.events if event[0] != 4]
    return replace(scene.parts, event_log=scene.tpm.event_log())


def log_of_other_pcrs(scene: TpmScene) -> TpmParts:
    scene.tpm.events[:] = [(9, 1, b"a boot loader")]
    return replace(scene.parts, event_log=scene.tpm.event_log())


def signature_of_zero(scene: TpmScene) -> tuple[bytes, bytes]:
    zero = marshal.u16(marshal.ECDSA) + marshal.u16(0x0B) + marshal.sized(b"") + marshal.sized(b"")
    return scene.parts.quote[0], zero


def exchange(scene: TpmScene) -> tuple[int, str]:
    """A scheme that signs nothing: ECDH, or OAEP for RSA."""
    return (0x0019 if scene.tpm.ak_kind.startswith("p") else 0x0017), "sha256"


def forged_hash(scene: TpmScene, digest: str) -> tuple[bytes, bytes]:
    attest, signature = scene.parts.quote
    return attest, marshal.u16(scene.tpm.ak_scheme) + marshal.u16(marshal.ALG[digest]) + signature[4:]


def key_without_policy(scene: TpmScene) -> TpmParts:
    return scene.with_key(auth_policy=b"")


def key_bound_to_pcrs_only(scene: TpmScene) -> TpmParts:
    pcr = marshal.u32(0x17F) + marshal.selection(PCRS) + scene.tpm.pcr_digest(PCRS, "sha256")
    return scene.with_key(auth_policy=hashlib.sha256(bytes(32) + pcr).digest())


def key_bound_to_other_pcrs(scene: TpmScene) -> TpmParts:
    return scene.with_key(auth_policy=scene.tpm.policy({"sha256": (0, 1, 2)}))


def quote_of_fewer_pcrs(scene: TpmScene) -> TpmParts:
    fewer = {"sha256": (0, 1, 2)}
    quote = scene.tpm.quote(fewer, merkle.leaf_hash(BINDING))
    return replace(scene.parts, quote=quote, pcrs=scene.tpm.values(fewer))


def key_on_p384(scene: TpmScene) -> TpmParts:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    public = marshal.public(
        key,
        attributes=marshal.KEY_ATTRIBUTES,
        scheme=(marshal.ECDSA, "sha256"),
        auth_policy=scene.tpm.policy(PCRS),
    )
    return replace(scene.parts, key_public=public, certify=scene.tpm.certify(public))


def key_is_rsa(scene: TpmScene) -> TpmParts:
    public = marshal.public(
        private_key("rsa2048", "rsa instance key").public_key(),
        attributes=marshal.KEY_ATTRIBUTES,
        scheme=(marshal.RSASSA, "sha256"),
        auth_policy=scene.tpm.policy(PCRS),
    )
    return replace(scene.parts, key_public=public, certify=scene.tpm.certify(public))


AK, KEY = marshal.AK_ATTRIBUTES, marshal.KEY_ATTRIBUTES
QUOTE_SIGNATURE, CERTIFY_SIGNATURE = ["quote.signature.invalid"], ["key.certify.signature"]

SHARED: dict[str, tuple[Callable[[Any], TpmParts], list[str]]] = {
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
        lambda s: s.with_ak(scheme=exchange(s)),
        ["ak.attributes.scheme", "key.certify.signature", "quote.signature.invalid"],
    ),
    "ak-with-symmetric-cipher": (
        lambda s: s.with_ak(symmetric=bytes.fromhex("000600800043")),
        ["ak.attributes.scheme"],
    ),
    "ak-named-with-sha1": (lambda s: s.with_ak(name_alg="sha1"), ["ak.attributes.strength"]),
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
        lambda s: replace(s.parts, certify=FakeTpm("another").certify(s.parts.key_public, signer=s.signer)),
        CERTIFY_SIGNATURE,
    ),
    # quote.signature
    "quote-signature-flipped": (
        lambda s: replace(s.parts, quote=(s.parts.quote[0], flip(s.parts.quote[1]))),
        QUOTE_SIGNATURE,
    ),
    "quote-signature-of-zero": (lambda s: replace(s.parts, quote=signature_of_zero(s)), QUOTE_SIGNATURE),
    "quote-by-another-tpm": (
        lambda s: replace(s.parts, quote=by_another_tpm(s)),
        QUOTE_SIGNATURE,
    ),
    "quote-signed-by-the-certification": (
        lambda s: replace(s.parts, quote=(s.parts.quote[0], s.parts.certify[1])),
        QUOTE_SIGNATURE,
    ),
    "quote-hash-forged": (
        lambda s: replace(s.parts, quote=forged_hash(s, "sha384")),
        ["quote.signature.invalid", "quote.pcrs.digest"],
    ),
    "quote-hash-sha1": (
        lambda s: replace(s.parts, quote=forged_hash(s, "sha1")),
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
    # quote.ima
    "ima-without-an-entry": (lambda s: s.with_ima(ima_without_an_entry), ["quote.ima.mismatch"]),
    "ima-of-another-file": (lambda s: s.with_ima(ima_of_another_file), ["quote.ima.mismatch"]),
    "ima-cut-before-the-quote": (
        lambda s: s.with_ima(lambda k: k.entries.pop() and None),
        ["quote.ima.mismatch"],
    ),
    "ima-of-another-boot": (ima_of_another_boot, ["quote.ima.boot_aggregate"]),
    "ima-without-pcr-10": (lambda s: s.with_ima(nothing, BOOT), ["quote.ima.uncovered"]),
    "ima-beside-a-key-bound-to-pcr-10": (key_bound_to_pcr_10, ["key.policy.mismatch"]),
}
