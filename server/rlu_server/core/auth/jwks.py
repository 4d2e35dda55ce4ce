"""An issuer's public keys, as the file that is pushed in holds them (RFC 7517).

Public signature keys only. A symmetric key would let whoever can read the file sign tokens, a private one has no business here, and
either means that something went wrong where the file comes from: the whole file refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed

MAX_FILE = 1 << 20
MAX_KEYS = 64
MIN_RSA_BITS = 2048
ALGORITHMS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
"""Signature algorithms that can be allowed: the key type and curve of each. None is symmetric."""
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

PublicKey = RSAKey | ECKey | OKPKey


class Keys:
    """The usable keys of one set, by `kid`."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, tuple[Mapping[str, Any], PublicKey]]) -> None:
        self._keys = dict(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key that a token names; one without a name finds the only key there is. None: unknown, or of another algorithm."""
        if kid is None:
            if len(self._keys) != 1:
                return None
            ((jwk, key),) = self._keys.values()
        else:
            found = self._keys.get(kid)
            if found is None:
                return None
            jwk, key = found
        kind, curve = ALGORITHMS[algorithm]
        fits = jwk["kty"] == kind and jwk.get("crv", "") == curve and jwk.get("alg", algorithm) == algorithm
        return key if fits else None


def parse(data: bytes) -> Keys:
    """Read a JWKS file. Keys for encryption, of unknown types and curves are left out.

    Raises:
        Malformed: `jwks.file` (not a key set), `jwks.private` (private or symmetric keys), `jwks.key` (a key that is not one, a short RSA
            key, a name that occurs twice), `jwks.empty` (no key that could verify anything).
    """
    keys: dict[str, tuple[Mapping[str, Any], PublicKey]] = {}
    entries = _entries(data)
    if any(PRIVATE & entry.keys() or entry.get("kty") == "oct" for entry in entries):
        raise Malformed(
            "jwks.private", "the key set holds private or symmetric keys; publish public keys only"
        )
    for entry in entries:
        if not _verifies(entry):
            continue
        kid = entry.get("kid", "")
        if not isinstance(kid, str) or kid in keys:
            raise Malformed("jwks.key", "a key's `kid` is not a string, or occurs twice")
        keys[kid] = (entry, _key(entry))
    if not keys:
        raise Malformed("jwks.empty", "the key set has no key that verifies signatures")
    return Keys(keys)


def _entries(data: bytes) -> list[dict[str, Any]]:
    try:
        if len(data) > MAX_FILE:
            raise ValueError("too long")
        document = json.loads(data)
        entries = document["keys"]
        if not isinstance(entries, list) or len(entries) > MAX_KEYS:
            raise ValueError("keys")
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("key")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Malformed("jwks.file", f"not a JSON Web Key Set of at most {MAX_KEYS} keys") from error
    return entries


def _verifies(entry: Mapping[str, Any]) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return (
        entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and (entry.get("kty"), entry.get("crv", "")) in ALGORITHMS.values()
    )


def _key(entry: Mapping[str, Any]) -> PublicKey:
    kinds: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    # Only what makes the key: texts such as `x5u` or `x5c` beside it are nobody's business.
    members = {name: entry[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in entry}
    try:
        if entry["kty"] == "RSA" and int.from_bytes(unb64u(entry["n"]), "big").bit_length() < MIN_RSA_BITS:
            raise Malformed("jwks.key", f"an RSA key of the set has fewer than {MIN_RSA_BITS} bits")
        key = kinds[entry["kty"]].import_key(members)
        _ = key.public_key  # which is where its numbers are looked at
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise Malformed("jwks.key", "a key of the set cannot be read") from error
    return key
