"""How many instances serve under a licence, as far as somebody holds their statements: an auditor's count, not the server's.

No instance can count the others without a network, and none tries. Whoever collects instance statements (of every node, of one day)
counts here; each is checked to be signed by the key that it names, and to name this licence. What hardware the keys are in, `rlu verify`
says. A key that is being rotated makes two instances of one node for a while.
"""

from __future__ import annotations

from collections.abc import Iterable

from rlu_attestation import jose
from rlu_attestation.errors import Untrusted
from rlu_attestation.instance import InstanceClaims


def serving(statements: Iterable[str], licence: bytes, at: int) -> set[str]:
    """The instances whose statement names this licence and is valid at a time.

    Args:
        statements: JWS each.
        licence: `document.digest`.

    Raises:
        Malformed: one is not an instance statement.
        Untrusted: `signature.invalid`, `licence.statement`: not signed by the key that it names.
    """
    found = set()
    for text in statements:
        jws = jose.jws_parse(text)
        claims = InstanceClaims.parse(jws.payload)
        if jose.thumbprint(claims.jwk) != jws.kid:
            raise Untrusted(
                "licence.statement", "an instance statement is not signed by the key that it names"
            )
        jose.verify_es256(jose.public_key(claims.jwk), jws.signing_input, jws.signature)
        named = claims.licence is not None and claims.licence.digest == licence
        if named and claims.issued_at <= at <= claims.expires_at:
            found.add(claims.ueid)
    return found
