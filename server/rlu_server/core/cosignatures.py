"""The witnesses' cosignatures that this gateway hands out: of each configured witness the one on the largest head.

Nobody needs a right to bring one: it is kept only if a witness that the settings name made it, on a head that this instance signed.
They are in memory; after a restart the witnesses, who come by regularly, bring new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlu_attestation import cose, jose
from rlu_attestation.errors import RluError
from rlu_attestation.log.cosignature import Cosignature, WitnessKey, verify_cosignature
from rlu_server.core.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A signed head with one witness's signature line."""

    head: bytes
    tree_size: int
    line: str
    time: int


class Cosignatures:
    """What the witnesses brought.

    Args:
        keys: verifier keys of the witnesses.

    Raises:
        Malformed: `cosignature.encoding`.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = {key.name: key for key in map(WitnessKey.parse, keys)}
        self._latest: dict[str, Cosigned] = {}
        self._issuer = ""

    def offer(self, head: bytes, line: str, issuer: str, jwk: Mapping[str, str]) -> None:
        """Keep a cosignature.

        Args:
            issuer: the instance, and `jwk` its key.

        Raises:
            GatewayError: `cosignature_refused`.
        """
        try:
            parsed, cosignature = cose.parse_head(head), Cosignature.parse(line)
            witness = self._keys.get(cosignature.name)
            if witness is None or parsed.issuer != issuer:
                raise GatewayError("cosignature_refused")
            parsed.verify(jose.public_key(jwk))
            time = verify_cosignature(parsed, cosignature, witness)
        except RluError as error:
            raise GatewayError("cosignature_refused") from error
        self._of(issuer)
        before = self._latest.get(witness.name)
        if before is None or (parsed.tree_size, time) >= (before.tree_size, before.time):
            self._latest[witness.name] = Cosigned(head, parsed.tree_size, line, time)

    def of(self, issuer: str) -> list[Cosigned]:
        """Those on heads of this instance."""
        self._of(issuer)
        return [self._latest[name] for name in sorted(self._latest)]

    def _of(self, issuer: str) -> None:
        if issuer != self._issuer:
            self._issuer, self._latest = issuer, {}
