"""The seam between the attestor and what holds its key.

A `Platform` is a TPM (`tpm/`), a TEE (`enclave.py`) or a software key (`software.py`). It signs 32-byte digests with the one instance key
and collects evidence that binds a 32-byte root. Every method blocks and is called from one thread, but for `collects_beside`; nothing of
it is on the event loop.

    HardwareUnavailable   nothing was signed, a later call may work: the platform reconnects by itself
    HardwareRefused       nothing was signed, and a person has to look at it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import canonical
from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.merkle import Tree
from rlu_server.attestor.places import KeyAt, Place


@dataclass(frozen=True, slots=True)
class BindingProof:
    """Where one statement's binding is in the tree whose root the evidence binds (FORMATS section 3)."""

    leaf_index: int
    tree_size: int
    path: tuple[bytes, ...]

    @classmethod
    def of(cls, tree: Tree, index: int) -> BindingProof:
        return cls(index, tree.size, tuple(tree.inclusion_path(index)))


Evidence = Callable[[BindingProof], bytes]
"""Evidence over a root; called with a statement's proof it gives that statement's evidence item."""


def evidence_of(item: bytes) -> Evidence:
    """Evidence whose items differ in `binding` alone, where `item` is one of them: checked once, so that a crowd of statements is cheap."""
    fields = canonical.decode(item, len(item))

    def for_statement(proof: BindingProof) -> bytes:
        binding = BindingPath(proof.leaf_index, proof.path, proof.tree_size)
        return canonical.encode({**fields, "binding": binding.to_json()})

    return for_statement


class Platform(Protocol):
    """Holder of the instance key."""

    @property
    def kind(self) -> str:
        """Kind of its evidence item, and `rlu_key.hardware`: `tpm2` or `none`."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The instance key."""

    @property
    def verified_boot(self) -> bool:
        """`oemboot`, as far as it can be told."""

    @property
    def collects_beside(self) -> bool:
        """Whether evidence and signatures come from different devices, so that both may be made at once, from two threads."""

    def sign(self, digest: bytes) -> bytes:
        """Raw ES256 signature (r ‖ s, 64 bytes) over a SHA-256 digest."""

    def collect(self, root: bytes) -> Evidence:
        """Evidence whose qualifying data is `root`."""

    def beside(self, key: Place) -> Platform:
        """One more key on the same hardware, to step into this one's place; called again with the place of a key, the same one.

        Args:
            key: where it is kept, if such keys are kept.

        Raises:
            AttestorError: it cannot be made here; this key goes on.
        """

    def evict(self, key: KeyAt) -> None:
        """Remove a key from its handle, if it is there and is this one; nobody uses it any more."""

    def raise_start_counter(self) -> int:
        """Raise the counter of attestor starts and return its new value."""

    def close(self) -> None:
        """Let go of the hardware."""
