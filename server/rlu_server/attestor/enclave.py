"""A key born in a TEE: made in this process's memory, never written, gone with the process. Evidence binds its public half (P2).

That nobody else has the key follows from the TEE: its memory is closed to the host, and its measurement says which program made the key.
A restart is therefore a new instance, which names the former's last head as predecessor. There is no counter in these TEEs that would
survive; the count of starts lies in a file and is only asserted.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_server.attestor import memory_key
from rlu_server.attestor.collect.collector import ROOT_SIZE, Collector
from rlu_server.attestor.places import KeyAt, Place
from rlu_server.attestor.platform import Evidence


class EnclavePlatform:
    """`Platform` in an SEV-SNP or TDX guest or a Nitro Enclave.

    Raises at construction:
        AttestorError: as the collector: no evidence can be had, so no statement would be believed.
    """

    collects_beside = True
    verified_boot = False
    """The measurement in the evidence says what booted; there is no other word on it."""

    def __init__(self, collector: Collector, counter_file: Path) -> None:
        collector.collect(bytes(ROOT_SIZE))
        self._collector = collector
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._counter_file = counter_file

    @property
    def kind(self) -> str:
        return self._collector.kind

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, digest: bytes) -> bytes:
        return memory_key.sign(self._key, digest)

    def collect(self, root: bytes) -> Evidence:
        return self._collector.collect(root)

    def beside(self, key: Place) -> EnclavePlatform:
        """A key in memory, like this one; nothing is kept."""
        return EnclavePlatform(self._collector, self._counter_file)

    def evict(self, key: KeyAt) -> None:
        """Nothing: no key of this kind is at a handle."""

    def raise_start_counter(self) -> int:
        """Raises NotReady when the file is damaged."""
        return memory_key.count_start(self._counter_file)

    def close(self) -> None:
        pass
