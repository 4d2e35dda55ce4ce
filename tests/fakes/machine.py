"""A whole attested machine: TPM, vendor's authority and registrar, and the evidence item they make together.

`Machine().evidence(binding)` is genuine in every step at `fakes.pki.AT`. `Parts` holds the fields before they are put together, so that
a perturbation replaces one of them: `replace(parts, quote=…)`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fakes.pki import Authority, FakeRegistrar
from fakes.tpm import FakeTpm
from rlu_attestation import merkle, x509
from rlu_attestation.encoding import b64u
from rlu_attestation.endorsement import Endorsement

PCRS: Mapping[str, tuple[int, ...]] = {"sha256": (0, 1, 2, 3, 4, 5, 6, 7)}
ENDORSED = {"region": "eu-central-1", "boundary": "on-premises", "site": "rack-12"}


@functools.cache
def vendor_root(kind: str = "rsa2048") -> Authority:
    return Authority("Vendor TPM Root", kind)


@functools.cache
def vendor_intermediate(kind: str = "rsa2048") -> Authority:
    return Authority("Vendor TPM Intermediate", "p256", issuer=vendor_root(kind), path_length=0)


@functools.cache
def registrar(name: str = "registrar") -> FakeRegistrar:
    return FakeRegistrar(name)


@dataclass(frozen=True, kw_only=True)
class TpmParts:
    """The fields of an item that all kinds with a TPM share, as bytes; nothing is checked."""

    ak_public: bytes
    key_public: bytes
    certify: tuple[bytes, bytes]
    quote: tuple[bytes, bytes]
    pcrs: Mapping[str, Mapping[int, bytes]]
    leaf_index: int
    path: tuple[bytes, ...]
    tree_size: int
    event_log: bytes | None
    ima_log: bytes | None = None

    def members(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "ak_public": b64u(self.ak_public),
            "key_public": b64u(self.key_public),
            "certify": {"attest": b64u(self.certify[0]), "signature": b64u(self.certify[1])},
            "quote": {"attest": b64u(self.quote[0]), "signature": b64u(self.quote[1])},
            "pcrs": {
                bank: {str(n): b64u(v) for n, v in values.items()} for bank, values in self.pcrs.items()
            },
            "binding": {
                "leaf_index": self.leaf_index,
                "path": [b64u(node) for node in self.path],
                "tree_size": self.tree_size,
            },
        }
        if self.event_log is not None:
            fields["event_log"] = b64u(self.event_log)
        if self.ima_log is not None:
            fields["ima_log"] = b64u(self.ima_log)
        return fields

    def item(self) -> dict[str, Any]:
        """The JSON object."""
        raise NotImplementedError

    def encode(self) -> bytes:
        return encode(self.item())


@dataclass(frozen=True, kw_only=True)
class Parts(TpmParts):
    """Fields of an item of kind `tpm2`."""

    ek_certificate: bytes
    ek_chain: tuple[bytes, ...]
    ak_certificate: bytes
    ak_chain: tuple[bytes, ...]

    def item(self) -> dict[str, Any]:
        return self.members() | {
            "kind": "tpm2",
            "ek_certificate": b64u(self.ek_certificate),
            "ek_chain": [b64u(der) for der in self.ek_chain],
            "ak_certificate": b64u(self.ak_certificate),
            "ak_chain": [b64u(der) for der in self.ak_chain],
        }


def encode(item: Mapping[str, Any]) -> bytes:
    """Canonical JSON of an item, without asking the code under test."""
    return json.dumps(item, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class Measured:
    """A machine with measured boot and an instance key; `others` more statements share its quotes."""

    tpm: FakeTpm = field(default_factory=FakeTpm)
    selected: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: PCRS)
    with_event_log: bool = True

    def __post_init__(self) -> None:
        for pcr in range(8):
            self.tpm.measure(pcr, f"firmware of {pcr}".encode())
            self.tpm.measure(pcr, bytes(4), event_type=4)
        self.tpm.create_key(self.selected)
        self.certify = self.tpm.certify()

    def tpm_parts(
        self, binding: bytes, before: tuple[bytes, ...] = (), after: tuple[bytes, ...] = ()
    ) -> dict[str, Any]:
        """What the TPM adds to an item whose quote also covers other statements' bindings, before and after this one."""
        tree = merkle.Tree()
        for leaf in (*before, binding, *after):
            tree.append(merkle.leaf_hash(leaf))
        return {
            "ak_public": self.tpm.ak_public,
            "key_public": self.tpm.key_public,
            "certify": self.certify,
            "quote": self.tpm.quote(self.selected, tree.root()),
            "pcrs": self.tpm.values(self.selected),
            "leaf_index": len(before),
            "path": tuple(tree.inclusion_path(len(before))),
            "tree_size": tree.size,
            "event_log": self.tpm.event_log() if self.with_event_log else None,
        }

    def parts(
        self, binding: bytes, before: tuple[bytes, ...] = (), after: tuple[bytes, ...] = ()
    ) -> TpmParts:
        """Parts of a whole item."""
        raise NotImplementedError

    def evidence(self, binding: bytes) -> bytes:
        """The evidence item for a statement's binding."""
        return self.parts(binding).encode()

    def sign(self, message: bytes) -> bytes:
        """r ‖ s by the instance key."""
        return self.tpm.sign(message)


@dataclass
class Machine(Measured):
    """A machine whose AK a registrar enrolled."""

    ek_fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        authority = vendor_intermediate()
        self.ek_certificate = authority.certify_ek(self.tpm.ek.public_key(), **self.ek_fields)
        self.ek_chain = (authority.der,)
        self.endorsed = Endorsement(
            ak_name=self.tpm.name(self.tpm.ak_public),
            ek_spki_sha256=x509.parse(self.ek_certificate).spki_sha256,
            **ENDORSED,
        )
        self.ak_certificate = registrar().certify_ak(self.endorsed, self.tpm.ak.public_key())

    @property
    def ek_roots(self) -> tuple[x509.Certificate, ...]:
        return (x509.parse(vendor_root().der),)

    @property
    def registrars(self) -> tuple[x509.Certificate, ...]:
        return (x509.parse(registrar().der),)

    def parts(self, binding: bytes, before: tuple[bytes, ...] = (), after: tuple[bytes, ...] = ()) -> Parts:
        return Parts(
            ek_certificate=self.ek_certificate,
            ek_chain=self.ek_chain,
            ak_certificate=self.ak_certificate,
            ak_chain=(),
            **self.tpm_parts(binding, before, after),
        )
