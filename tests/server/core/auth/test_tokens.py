"""Every way in which a token can be wrong has its own code, and arbitrary ones raise nothing else."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from fakes.issuer import ISSUER, Issuer, rsa_jwk
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed
from rlu_server.core.auth import jwks, tokens
from rlu_server.core.auth.tokens import Named, Rules
from rlu_server.core.errors import GatewayError

NOW = 1_800_000_000.0
ONE = Issuer("one", "two")
KEYS = jwks.parse(ONE.jwks())
RULES = Rules(
    "corporate",
    ISSUER,
    frozenset({"rlu"}),
    frozenset({"ES256", "RS256"}),
    tenant_claim=("org", "id"),
    tenants=frozenset({"acme"}),
    required=((("groups",), "rlu-users"), (("mfa",), True)),
)
CLAIMS = ONE.claims(NOW, org={"id": "acme"}, groups=["all", "rlu-users"], mfa=True)


def check(text: str, rules: Rules = RULES, now: float = NOW) -> Named:
    token = tokens.parse(text)
    tokens.verify(token, rules, KEYS)
    return tokens.judge(token.claims, rules, now)


def refusal(text: str, rules: Rules = RULES, now: float = NOW) -> str:
    with pytest.raises(GatewayError) as caught:
        check(text, rules, now)
    return caught.value.code


def claims(**change: Any) -> str:
    return ONE.sign({n: v for n, v in {**CLAIMS, **change}.items() if v is not ...})


def header(**change: Any) -> str:
    return ONE.sign(CLAIMS, change)


def test_a_good_token_names_its_principal():
    assert check(ONE.sign(CLAIMS)) == Named("acme", "dana", CLAIMS["exp"] + 60)
    assert check(ONE.sign(CLAIMS, kid="two")).principal == "dana"
    assert check(header(typ=...)).tenant == "acme"
    assert check(header(typ="at+JWT")).tenant == "acme"
    assert check(claims(aud="rlu")).tenant == "acme"
    fixed = replace(
        RULES, tenant_claim=(), tenant="globex", principal_prefix="corp:", principal_claim=("org", "id")
    )
    assert check(ONE.sign(CLAIMS), fixed) == Named("globex", "corp:acme", CLAIMS["exp"] + 60)


def unsigned() -> str:
    return ".".join((b64u(b'{"alg":"none"}'), b64u(json.dumps(CLAIMS).encode()), ""))


def with_public_key_as_secret() -> str:
    """The old confusion: an HMAC under the text of the public key."""
    pem = ONE.keys["one"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = (
        f"{b64u(json.dumps({'alg': 'HS256', 'kid': 'one'}).encode())}.{b64u(json.dumps(CLAIMS).encode())}"
    )
    return f"{signed}.{b64u(hmac.digest(pem, signed.encode(), 'sha256'))}"


def cut(part: int, change: Callable[[str], str]) -> str:
    parts = ONE.sign(CLAIMS).split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


def flipped(part: str) -> str:
    data = bytearray(base64.urlsafe_b64decode(part + "=="))
    data[5] ^= 1
    return b64u(bytes(data))


PERTURBATIONS: dict[str, tuple[Callable[[], str], str]] = {
    "no-signature": (unsigned, "token_malformed"),
    "alg-none-with-signature": (lambda: header(alg="none"), "token_algorithm"),
    "alg-NONE": (lambda: header(alg="NONE"), "token_algorithm"),
    "hmac-under-public-key": (with_public_key_as_secret, "token_algorithm"),
    "alg-not-allowed": (lambda: header(alg="ES384"), "token_algorithm"),
    "alg-of-another-key-type": (lambda: header(alg="RS256"), "token_key_unknown"),
    "alg-missing": (lambda: header(alg=...), "token_header"),
    "alg-list": (lambda: header(alg=["ES256"]), "token_header"),
    "kid-unknown": (lambda: header(kid="three"), "token_key_unknown"),
    "kid-missing-among-two": (lambda: header(kid=...), "token_key_unknown"),
    "kid-number": (lambda: header(kid=1), "token_header"),
    "kid-path": (lambda: header(kid="../../etc/passwd"), "token_key_unknown"),
    "kid-of-the-other-key": (lambda: header(kid="two"), "token_signature"),
    "crit": (lambda: header(crit=["exp"]), "token_header"),
    "crit-empty": (lambda: header(crit=[]), "token_header"),
    "b64-false": (lambda: header(b64=False), "token_header"),
    "jku": (lambda: header(jku="https://evil.example/jwks"), "token_header"),
    "jwk": (lambda: header(jwk=ONE.jwk("one")), "token_header"),
    "x5u": (lambda: header(x5u="https://evil.example/c"), "token_header"),
    "x5c": (lambda: header(x5c=["AA=="]), "token_header"),
    "zip": (lambda: header(zip="DEF"), "token_header"),
    "typ-of-something-else": (lambda: header(typ="logout+jwt"), "token_header"),
    "two-parts": (lambda: ONE.sign(CLAIMS).rpartition(".")[0], "token_malformed"),
    "five-parts": (lambda: ONE.sign(CLAIMS) + ".a.b", "token_malformed"),
    "padding": (lambda: ONE.sign(CLAIMS) + "=", "token_malformed"),
    "space-in-payload": (lambda: cut(1, lambda p: p[:4] + " " + p[4:]), "token_malformed"),
    "payload-changed": (
        lambda: cut(1, lambda _: b64u(json.dumps({**CLAIMS, "sub": "eve"}).encode())),
        "token_signature",
    ),
    "signature-changed": (lambda: cut(2, flipped), "token_signature"),
    "signature-short": (lambda: cut(2, lambda _: b64u(bytes(61))), "token_signature"),
    "signature-of-zeros": (lambda: cut(2, lambda _: b64u(bytes(64))), "token_signature"),
    "header-twice": (
        lambda: ONE.sign_raw(b'{"alg":"ES256","alg":"none","kid":"one"}', b"{}"),
        "token_malformed",
    ),
    "claim-twice": (
        lambda: ONE.sign_raw(b'{"alg":"ES256","kid":"one"}', b'{"sub":"a","sub":"b"}'),
        "token_malformed",
    ),
    "payload-list": (lambda: ONE.sign([1]), "token_malformed"),
    "payload-not-json": (lambda: ONE.sign_raw(b'{"alg":"ES256","kid":"one"}', b"{"), "token_malformed"),
    "payload-nan": (lambda: ONE.sign_raw(b'{"alg":"ES256","kid":"one"}', b'{"exp":NaN}'), "token_malformed"),
    "payload-deep": (lambda: ONE.sign_raw(b'{"alg":"ES256","kid":"one"}', b"[" * 5000), "token_malformed"),
    "too-long": (lambda: claims(pad="x" * 20_000), "token_malformed"),
    "exp-missing": (lambda: claims(exp=...), "token_claims"),
    "exp-null": (lambda: claims(exp=None), "token_claims"),
    "exp-text": (lambda: claims(exp="9999999999"), "token_claims"),
    "exp-true": (lambda: claims(exp=True), "token_claims"),
    "exp-infinite": (lambda: ONE.sign_raw(b'{"alg":"ES256","kid":"one"}', b'{"exp":1e999}'), "token_claims"),
    "exp-beyond-all-clocks": (lambda: claims(exp=10**400), "token_claims"),
    "expired": (lambda: claims(exp=NOW - 60), "token_expired"),
    "not-yet": (lambda: claims(nbf=NOW + 61), "token_not_yet"),
    "issued-in-the-future": (lambda: claims(iat=NOW + 61), "token_not_yet"),
    "audience-other": (lambda: claims(aud="rlu2"), "token_audience"),
    "audience-missing": (lambda: claims(aud=...), "token_audience"),
    "audience-nested": (lambda: claims(aud=[["rlu"]]), "token_audience"),
    "bound-to-a-key": (lambda: claims(cnf={"jkt": "x"}), "token_claims"),
    "group-missing": (lambda: claims(groups=["all"]), "token_claims"),
    "group-text-that-holds-it": (lambda: claims(groups="rlu-users-not"), "token_claims"),
    "required-one-for-true": (lambda: claims(mfa=1), "token_claims"),
    "tenant-missing": (lambda: claims(org={}), "token_claims"),
    "tenant-of-others": (lambda: claims(org={"id": "globex"}), "token_claims"),
    "tenant-list": (lambda: claims(org={"id": ["acme"]}), "token_claims"),
    "subject-missing": (lambda: claims(sub=...), "token_claims"),
    "subject-empty": (lambda: claims(sub=""), "token_claims"),
    "subject-unprintable": (lambda: claims(sub="a\nb"), "token_claims"),
    "subject-long": (lambda: claims(sub="a" * 129), "token_claims"),
}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_each_perturbation_has_its_code(name: str):
    make, code = PERTURBATIONS[name]
    assert refusal(make()) == code


def test_clocks_may_differ_a_little_and_no_more():
    assert check(claims(exp=NOW - 59.5)).tenant == "acme"
    assert check(claims(nbf=NOW + 60)).tenant == "acme"
    strict = replace(RULES, clock_skew_s=0)
    assert refusal(claims(exp=NOW), strict) == "token_expired"


def test_every_tenant_only_when_the_operator_says_so():
    assert check(claims(org={"id": "x"}), replace(RULES, tenants=frozenset({"*"}))).tenant == "x"


@given(st.text(max_size=200))
def test_arbitrary_text_raises_only_our_error(text: str):
    with pytest.raises(GatewayError):
        check(text)


@given(st.binary(max_size=120), st.binary(max_size=120))
def test_arbitrary_signed_parts_raise_only_our_error(head: bytes, payload: bytes):
    with pytest.raises(GatewayError):
        check(ONE.sign_raw(head, payload))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["exp", "nbf", "iat", "aud", "sub", "org", "groups", "mfa", "cnf"])


@given(st.dictionaries(NAMES, VALUES))
def test_arbitrary_claims_give_a_principal_or_our_error(change: dict[str, Any]):
    with contextlib.suppress(GatewayError):
        assert tokens.judge({**CLAIMS, **change}, RULES, NOW).tenant == "acme"


# --- key sets ---------------------------------------------------------------------------------------------------------


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


EC = ONE.jwk("one")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "jwks.file"),
        (b"[]", "jwks.file"),
        (b'{"keys": 1}', "jwks.file"),
        (b'{"keys": [1]}', "jwks.file"),
        (b"\xff", "jwks.file"),
        (b"[" * 100_000, "jwks.file"),
        (key_set(*[EC] * 65), "jwks.file"),
        (key_set(), "jwks.empty"),
        (key_set({**EC, "use": "enc"}), "jwks.empty"),
        (key_set({**EC, "key_ops": ["encrypt"]}), "jwks.empty"),
        (key_set({**EC, "crv": "secp256k1"}), "jwks.empty"),
        (key_set(EC, EC), "jwks.key"),
        (key_set({**EC, "kid": 1}), "jwks.key"),
        (key_set({**EC, "x": "AAAA"}), "jwks.key"),
        (key_set({**EC, "x": 7}), "jwks.key"),
        (key_set(EC, {"kty": "oct", "k": "AAAA", "kid": "h"}), "jwks.private"),
        (key_set({**EC, "d": "AAAA"}), "jwks.private"),
        (key_set(rsa_jwk(1024, "short")), "jwks.key"),
    ],
)
def test_key_sets_that_refuse(data: bytes, code: str):
    with pytest.raises(Malformed) as caught:
        jwks.parse(data)
    assert caught.value.code == code


def test_what_is_not_for_signatures_is_left_out():
    keys = jwks.parse(key_set(EC, {**ONE.jwk("two"), "use": "enc"}, {"kty": "new"}, rsa_jwk(2048, "rsa")))
    assert len(keys) == 2
    assert keys.find("one", "ES256") is not None
    assert keys.find("two", "ES256") is None
    assert keys.find("rsa", "RS256") is not None
    assert keys.find("rsa", "ES256") is None
    assert keys.find("rsa", "PS512") is not None


def test_a_token_without_a_name_finds_the_only_key():
    alone = jwks.parse(key_set({n: v for n, v in EC.items() if n != "kid"}))
    token = tokens.parse(header(kid=...))
    tokens.verify(token, RULES, alone)
    with pytest.raises(GatewayError):
        tokens.verify(tokens.parse(header(kid="one")), RULES, alone)


@given(st.binary(max_size=200))
def test_arbitrary_key_sets_raise_only_our_error(data: bytes):
    with pytest.raises(Malformed):
        jwks.parse(data)
