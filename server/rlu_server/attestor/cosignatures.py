"""What witnesses brought: of each the cosignature on the largest head, kept beside the log of the instance that the head is of.

    <state>/log/<ueid>.cosignatures.json   `{"cosignatures":[{"cosignature","head"}…]}`, as `GET cosignatures` gives them

Nobody needs a right to bring one: it is kept only if a witness that the settings name made it, on a head signed by an instance whose log
is here. Those of instances that are no more stay, as their logs do; so do those of a witness that the settings name no more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation import cose, jose
from rlu_attestation.bundle import MAX_COSIGNATURES
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.log.cosignature import Cosignature, WitnessKey, verify_cosignature
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.messages import Cosign
from rlu_server.attestor.secret import write_private

ENDING = ".cosignatures.json"
MAX_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A signed head with one witness's signature line, taken apart."""

    head: bytes
    line: str
    tree_size: int
    cosignature: Cosignature

    @classmethod
    def parse(cls, head: bytes, line: str) -> Cosigned:
        """Nothing is verified.

        Raises:
            RluError: it cannot be read.
        """
        return cls(head, line, cose.parse_head(head).tree_size, Cosignature.parse(line))

    @property
    def witness(self) -> tuple[str, bytes]:
        return self.cosignature.name, self.cosignature.key_hash

    @property
    def order(self) -> tuple[int, int]:
        return self.tree_size, self.cosignature.time


class Cosignatures:
    """Those of all instances of one attestor. Its methods block.

    Args:
        directory: that of the log.
        keys: verifier keys of the witnesses.

    Raises:
        Malformed: `cosignature.encoding`.
    """

    def __init__(self, directory: Path, keys: Iterable[str], events: EventLog) -> None:
        self._directory = directory
        self._keys = {key.hash: key for key in map(WitnessKey.parse, keys)}
        self._events = events
        self._lock = threading.Lock()

    def offer(self, given: Cosign, key_of: Callable[[str], Mapping[str, str] | None]) -> str:
        """Keep a cosignature; gives the instance it is of.

        Args:
            key_of: the key of an instance whose log is here; asked only about what a witness signed.

        Raises:
            AttestorError: `cosignature_refused`.
            OSError: the disk is full or broken.
        """
        refusal = AttestorError("cosignature_refused", "not by a witness of the settings on a head of ours")
        witness = self._keys.get(given.witness)
        if witness is None:
            raise refusal
        cosignature = Cosignature(witness.name, witness.hash, given.time, given.cosignature)
        encoded = _head(given)
        try:
            head = cose.parse_head(encoded)
            verify_cosignature(head, cosignature, witness)
            jwk = key_of(head.issuer)
            if jwk is None:
                raise refusal
            head.verify(jose.public_key(jwk))
        except RluError as error:
            raise refusal from error
        with self._lock:
            self._keep(head.issuer, Cosigned(encoded, cosignature.line, head.tree_size, cosignature))
        return head.issuer

    def of(self, issuer: str) -> list[Cosigned]:
        """Those on heads of an instance whose log is here, by the witness's name."""
        path = self._path(issuer)
        try:
            with path.open("rb") as file:
                listed = json.loads(file.read(MAX_FILE))["cosignatures"]
            found = [Cosigned.parse(unb64u(one["head"]), one["cosignature"]) for one in listed]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RluError):
            # Nothing is lost for good: whoever made them looks which are there, and brings the missing ones again.
            self._events.emit(Event.COSIGNATURES_DAMAGED)
            return []
        return sorted(found, key=lambda one: one.witness)

    def _keep(self, issuer: str, given: Cosigned) -> None:
        kept = {one.witness: one for one in self.of(issuer)}
        before = kept.get(given.witness)
        if before is not None and given.order <= before.order:
            return
        kept[given.witness] = given
        newest = sorted(kept.values(), key=lambda one: one.order, reverse=True)[:MAX_COSIGNATURES]
        listed = [{"cosignature": one.line, "head": b64u(one.head)} for one in newest]
        text = json.dumps({"cosignatures": listed}, indent=1) + "\n"
        write_private(self._path(issuer), text.encode("ascii"))

    def _path(self, issuer: str) -> Path:
        return self._directory / f"{issuer.rpartition(':')[2]}{ENDING}"


def _head(given: Cosign) -> bytes:
    """The signed head as it was before it was taken apart."""
    kid = unb64u(given.issuer.rpartition(":")[2])[
        1:
    ]  # FORMATS section 2: the name of an instance is its key's
    protected = cose.head_protected(kid, given.issuer, given.signed_at, given.tree_size)
    return cose.assemble_head(protected, given.root, given.signature)
