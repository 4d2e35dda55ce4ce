"""JSON Web Tokens (RFC 7519, 8725): from text to a verified tenant and principal.

The steps, in this order: shape, header, issuer, key, signature, times, audience, required claims, mapping. Nothing of a token's payload
counts before the signature does, but for the issuer's name, which only chooses whose keys are tried. The algorithm is the
*configuration's* choice: the header must name one that is allowed, and the key must be of that algorithm's type, so neither `none` nor
an HMAC under a public key can pass. Headers that bring keys along or change what is signed refuse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.strict_json import no_number, unique
from rlu_server.core.auth.credentials import MAX_CREDENTIAL
from rlu_server.core.auth.jwks import Keys
from rlu_server.core.errors import GatewayError

REFUSED_HEADERS = frozenset({"b64", "crit", "enc", "jku", "jwk", "x5c", "x5u", "zip"})
TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
MAX_LABEL = 128
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What one issuer's tokens must be, and whom they make.

    Attributes:
        name: the operator's name for the issuer; it appears in events.
        tenant: everybody's tenant, when `tenant_claim` is empty.
        tenants: what `tenant_claim` may say; `*` is anything.
    """

    name: str
    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    tenant: str = ""
    tenant_claim: Path = ()
    tenants: frozenset[str] = frozenset()
    principal_claim: Path = ("sub",)
    principal_prefix: str = ""
    required: tuple[tuple[Path, Any], ...] = ()
    clock_skew_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was read and not verified."""

    text: str
    algorithm: str
    kid: str | None
    claims: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        found = self.claims.get("iss")
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a verified token speaks for, and until when (seconds since the epoch)."""

    tenant: str
    principal: str
    expires: float


def looks_like_one(text: str) -> bool:
    """Three parts: an API key has none."""
    return text.count(".") == 2


def parse(text: str) -> Token:
    """Read a token, and refuse headers that no rule could make good.

    Raises:
        GatewayError: `token_malformed`, `token_header`.
    """
    parts = text.split(".")
    if len(parts) != 3 or len(text) > MAX_CREDENTIAL or not all(parts):
        raise GatewayError("token_malformed")
    header, claims = _object(parts[0]), _object(parts[1])
    try:
        unb64u(parts[2])
    except Malformed as error:
        raise GatewayError("token_malformed") from error
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if (
        not isinstance(algorithm, str)
        or not isinstance(kid, (str, type(None)))
        or not isinstance(kind, str)
        or kind.lower() not in TYPES
        or REFUSED_HEADERS & header.keys()
    ):
        raise GatewayError("token_header")
    return Token(text, algorithm, kid, claims)


def verify(token: Token, rules: Rules, keys: Keys) -> None:
    """Check algorithm, key and signature.

    Raises:
        GatewayError: `token_algorithm`, `token_key_unknown`, `token_signature`.
    """
    if token.algorithm not in rules.algorithms:
        raise GatewayError("token_algorithm")
    key = keys.find(token.kid, token.algorithm)
    if key is None:
        raise GatewayError("token_key_unknown")
    try:
        jws.deserialize_compact(token.text, key, [token.algorithm])
    except (JoseError, ValueError, TypeError) as error:
        raise GatewayError("token_signature") from error


def judge(claims: Mapping[str, Any], rules: Rules, now: float) -> Named:
    """Check the claims of a token whose origin is certain, and map them.

    Raises:
        GatewayError: `token_expired`, `token_not_yet`, `token_audience`, `token_claims`.
    """
    expires = _instant(claims, "exp")
    if expires is None:
        raise GatewayError("token_claims", param="exp")
    if now >= expires + rules.clock_skew_s:
        raise GatewayError("token_expired")
    for name in ("nbf", "iat"):
        begins = _instant(claims, name)
        if begins is not None and now < begins - rules.clock_skew_s:
            raise GatewayError("token_not_yet")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in rules.audiences for one in named):
        raise GatewayError("token_audience")
    if "cnf" in claims:
        # Bound to a key its holder must prove to have. Taken as a plain bearer token it would be worth more to a thief than it should.
        raise GatewayError("token_claims", param="cnf")
    for path, wanted in rules.required:
        found = _find(claims, path)
        if not _equal(found, wanted) and not (
            isinstance(found, list) and any(_equal(o, wanted) for o in found)
        ):
            raise GatewayError("token_claims")
    tenant = _label(_find(claims, rules.tenant_claim)) if rules.tenant_claim else rules.tenant
    if rules.tenant_claim and tenant not in rules.tenants and "*" not in rules.tenants:
        raise GatewayError("token_claims")
    principal = _label(_find(claims, rules.principal_claim))
    return Named(tenant, _label(rules.principal_prefix + principal), expires + rules.clock_skew_s)


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(unb64u(part), object_pairs_hook=unique, parse_constant=no_number)
    except (Malformed, ValueError, RecursionError) as error:
        raise GatewayError("token_malformed") from error
    if not isinstance(found, dict):
        raise GatewayError("token_malformed")
    return found


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    found = claims.get(name)
    if found is None:
        return None
    # Neither infinities (1e999) nor numbers beyond a float are times.
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < 2**53:
        raise GatewayError("token_claims", param=name)
    return float(found) if math.isfinite(found) else None


def _find(claims: Mapping[str, Any], path: Path) -> Any:
    found: Any = claims
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _equal(found: Any, wanted: Any) -> bool:
    return type(found) is type(wanted) and found == wanted


def _label(found: Any) -> str:
    if not isinstance(found, str) or not 1 <= len(found) <= MAX_LABEL or not found.isprintable():
        raise GatewayError("token_claims")
    return found
