"""A software TPM that works: keys, PCRs with an event log, certify, quote and activate, in the structures a TPM signs.

It follows the specification on its own and shares no code with what it tests. What it leaves out is the command interface.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from fakes import tpm_marshal as marshal

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
CURVES: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}

EV_POST_CODE, EV_NO_ACTION, EV_SEPARATOR = 0x01, 0x03, 0x04


@functools.cache
def private_key(kind: str, label: str) -> PrivateKey:
    """A key of a kind (`p256`, `p384`, `rsa2048`, `rsa1024`), the same one for the same label within a test run."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key(CURVES[kind])


@dataclass
class FakeTpm:
    """One TPM with an EK, an AK and an instance key.

    `ak_kind` and `ak_scheme` choose the attestation key: `("p256", ECDSA)`, `("rsa2048", RSAPSS)` and so on, with `ak_hash`.
    """

    label: str = "tpm"
    ek_kind: str = "rsa2048"
    ak_kind: str = "p256"
    ak_scheme: int = marshal.ECDSA
    ak_hash: str = "sha256"
    banks: tuple[str, ...] = ("sha256",)
    pcrs: dict[str, list[bytes]] = field(init=False)
    events: list[tuple[int, int, bytes]] = field(init=False, default_factory=list)
    reset_count: int = 7
    clock: int = 1000
    firmware: int = 0x2019102300163636

    def __post_init__(self) -> None:
        self.pcrs = {
            bank: [
                b"\xff" * HASHES[bank].digest_size if 17 <= n <= 22 else bytes(HASHES[bank].digest_size)
                for n in range(24)
            ]
            for bank in self.banks
        }
        self.ek = private_key(self.ek_kind, f"{self.label}/ek")
        self.ak = private_key(self.ak_kind, f"{self.label}/ak")
        self.key = private_key("p256", f"{self.label}/key")
        self.ak_public = self.make_ak_public()
        self.key_public = b""

    # --- PCRs -----------------------------------------------------------------------------------------------------

    def measure(self, pcr: int, data: bytes, event_type: int = EV_POST_CODE) -> None:
        """Extend a PCR in every bank with the digest of some data, and log the event."""
        self.events.append((pcr, event_type, data))
        if event_type == EV_NO_ACTION:
            return
        for bank, values in self.pcrs.items():
            digest = hashlib.new(bank, data).digest()
            values[pcr] = hashlib.new(bank, values[pcr] + digest).digest()

    def event_log(self) -> bytes:
        """The crypto-agile event log of everything measured."""
        le16, le32 = _little(2), _little(4)
        algorithms = b"".join(le16(marshal.ALG[b]) + le16(HASHES[b].digest_size) for b in self.banks)
        spec = (
            b"Spec ID Event03\x00"
            + le32(0)
            + bytes([0, 2, 0, 2])
            + le32(len(self.banks))
            + algorithms
            + b"\x00"
        )
        log = le32(0) + le32(EV_NO_ACTION) + bytes(20) + le32(len(spec)) + spec
        for pcr, event_type, data in self.events:
            log += le32(pcr) + le32(event_type) + le32(len(self.banks))
            for bank in self.banks:
                size = HASHES[bank].digest_size
                digest = bytes(size) if event_type == EV_NO_ACTION else hashlib.new(bank, data).digest()
                log += le16(marshal.ALG[bank]) + digest
            log += le32(len(data)) + data
        return log

    def values(self, selected: Mapping[str, Iterable[int]]) -> dict[str, dict[int, bytes]]:
        return {bank: {n: self.pcrs[bank][n] for n in pcrs} for bank, pcrs in selected.items()}

    def pcr_digest(self, selected: Mapping[str, Iterable[int]], algorithm: str) -> bytes:
        joined = b"".join(self.pcrs[bank][n] for bank, pcrs in selected.items() for n in sorted(pcrs))
        return hashlib.new(algorithm, joined).digest()

    # --- keys -----------------------------------------------------------------------------------------------------

    def make_ak_public(self, **changes: object) -> bytes:
        settings: dict[str, object] = {
            "attributes": marshal.AK_ATTRIBUTES,
            "scheme": (self.ak_scheme, self.ak_hash),
            "name_alg": "sha256",
        }
        return marshal.public(self.ak.public_key(), **(settings | changes))  # type: ignore[arg-type]

    def policy(self, selected: Mapping[str, Iterable[int]]) -> bytes:
        """PolicyPCR of the present values, then PolicyAuthValue."""
        pcr = marshal.u32(0x17F) + marshal.selection(selected) + self.pcr_digest(selected, "sha256")
        return hashlib.sha256(hashlib.sha256(bytes(32) + pcr).digest() + marshal.u32(0x16B)).digest()

    def create_key(self, selected: Mapping[str, Iterable[int]], **changes: object) -> bytes:
        """Make the instance key's public area, bound to the present PCR values."""
        settings: dict[str, object] = {
            "attributes": marshal.KEY_ATTRIBUTES,
            "scheme": (marshal.ECDSA, "sha256"),
            "auth_policy": self.policy(selected),
        }
        self.key_public = marshal.public(self.key.public_key(), **(settings | changes))  # type: ignore[arg-type]
        return self.key_public

    def sign(self, message: bytes) -> bytes:
        """r ‖ s by the instance key."""
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def name(self, public: bytes, algorithm: str = "sha256") -> bytes:
        return marshal.u16(marshal.ALG[algorithm]) + hashlib.new(algorithm, public).digest()

    def qualified_name(self, public: bytes) -> bytes:
        return self.name(self.name(b"owner") + self.name(public))

    # --- attestation ----------------------------------------------------------------------------------------------

    def certify(self, public: bytes | None = None, **changes: object) -> tuple[bytes, bytes]:
        """TPM2_Certify by the AK: (TPMS_ATTEST, TPMT_SIGNATURE)."""
        subject = self.key_public if public is None else public
        attested = marshal.sized(self.name(subject)) + marshal.sized(self.qualified_name(subject))
        return self._attest(attested, {"kind": marshal.CERTIFY} | changes)

    def quote(
        self,
        selected: Mapping[str, Iterable[int]],
        extra_data: bytes,
        pcr_digest: bytes | None = None,
        **changes: object,
    ) -> tuple[bytes, bytes]:
        """TPM2_Quote by the AK; the digest of the PCRs uses the hash of the AK's scheme."""
        digest = self.pcr_digest(selected, self.ak_hash) if pcr_digest is None else pcr_digest
        attested = marshal.selection(selected) + marshal.sized(digest)
        return self._attest(attested, {"kind": marshal.QUOTE, "extra_data": extra_data} | changes)

    def sign_attest(self, attest: bytes) -> bytes:
        """TPMT_SIGNATURE by the AK over any bytes; a real TPM refuses this to everybody but itself."""
        algorithm = HASHES[self.ak_hash]
        if isinstance(self.ak, ec.EllipticCurvePrivateKey):
            size = (self.ak.curve.key_size + 7) // 8
            return marshal.ecdsa_signature(self.ak.sign(attest, ec.ECDSA(algorithm)), self.ak_hash, size)
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if self.ak_scheme == marshal.RSAPSS:
            scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        return marshal.rsa_signature(self.ak_scheme, self.ak_hash, self.ak.sign(attest, scheme, algorithm))

    def _attest(self, attested: bytes, changes: Mapping[str, object]) -> tuple[bytes, bytes]:
        self.clock += 1
        settings: dict[str, object] = {
            "signer": self.qualified_name(self.ak_public),
            "clock": self.clock,
            "reset_count": self.reset_count,
            "firmware": self.firmware,
        }
        made = marshal.attest(attested, **(settings | dict(changes)))  # type: ignore[arg-type]
        return made, self.sign_attest(made)

    # --- credential activation (Part 1 section 24) ------------------------------------------------------------------

    def activate_credential(self, name: bytes, blob: bytes, secret: bytes) -> bytes:
        """TPM2_ActivateCredential for the loaded object of this name; raises ValueError on an integrity failure."""
        strong = self.ek_kind == "p384"
        algorithm, key_bytes = ("sha384", 32) if strong else ("sha256", 16)
        seed = self._seed(_unsized(secret)[0], algorithm)
        identity_object = _unsized(blob)[0]
        integrity, identity = _unsized(identity_object)
        size = HASHES[algorithm].digest_size
        mac_key = _kdfa(algorithm, seed, b"INTEGRITY\x00", b"", size)
        if not hmac.compare_digest(hmac.new(mac_key, identity + name, algorithm).digest(), integrity):
            raise ValueError("TPM_RC_INTEGRITY")
        key = _kdfa(algorithm, seed, b"STORAGE\x00", name, key_bytes)
        decryptor = Cipher(AES(key), CFB(bytes(16))).decryptor()
        return _unsized(decryptor.update(identity) + decryptor.finalize())[0]

    def _seed(self, secret: bytes, algorithm: str) -> bytes:
        if isinstance(self.ek, rsa.RSAPrivateKey):
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\x00")
            return self.ek.decrypt(secret, oaep)
        x, rest = _unsized(secret)
        y, _ = _unsized(rest)
        point = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), self.ek.curve
        )
        z = self.ek.exchange(ec.ECDH(), point.public_key())
        ours = self.ek.public_key().public_numbers().x.to_bytes((self.ek.curve.key_size + 7) // 8, "big")
        return hashlib.new(algorithm, marshal.u32(1) + z + b"IDENTITY\x00" + x + ours).digest()


def _kdfa(algorithm: str, key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    block = hmac.new(key, marshal.u32(1) + label + context + marshal.u32(8 * size), algorithm).digest()
    return block[:size]


def _unsized(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:2], "big")
    if len(data) < 2 + size:
        raise ValueError("TPM_RC_SIZE")
    return data[2 : 2 + size], data[2 + size :]


def _little(size: int) -> functools.partial[bytes]:
    return functools.partial(int.to_bytes, length=size, byteorder="little")
