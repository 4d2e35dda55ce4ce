"""The evidence item: exactly the keys of FORMATS section 4, each of its own kind, in the one encoding."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.machine import Machine, encode
from fakes.refusals import code_of
from fakes.tpm import FakeTpm
from fakes.tpm2_perturbations import BINDING
from fakes.tpm2_steps import STEPS, failures
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence import max_item, tpm2

MACHINE = Machine(FakeTpm("ecc"))
DATA = MACHINE.parts(BINDING, (bytes(32),)).encode()
ITEM: dict[str, Any] = json.loads(DATA)


def changed(path: str, value: Any) -> bytes:
    """The item with the value at a dotted path replaced, or removed when it is `...`."""
    item = json.loads(DATA)
    *parents, last = path.split(".")
    inner = item
    for name in parents:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return encode(item)


def test_parse_keeps_the_bytes_that_submods_covers() -> None:
    evidence = tpm2.parse(DATA)
    assert evidence.raw == DATA
    assert evidence.ek_certificate.raw == MACHINE.ek_certificate
    assert [found.raw for found in evidence.ek_chain] == list(MACHINE.ek_chain)
    assert evidence.pcrs == MACHINE.tpm.values(MACHINE.selected)
    assert (evidence.binding.leaf_index, evidence.binding.tree_size) == (1, 2)
    assert evidence.event_log is not None


REQUIRED = [
    "kind",
    "ek_certificate",
    "ek_chain",
    "ak_public",
    "ak_certificate",
    "ak_chain",
    "key_public",
    "certify",
    "quote",
    "pcrs",
    "binding",
]


@pytest.mark.parametrize("key", REQUIRED)
def test_every_key_is_required(key: str) -> None:
    with pytest.raises(Malformed) as refused:
        tpm2.parse(changed(key, ...))
    assert refused.value.code == "tpm2.item"


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "another-kind": (lambda: changed("kind", "none"), "tpm2.item"),
    "kind-number": (lambda: changed("kind", 2), "tpm2.item"),
    "unknown-key": (lambda: changed("extra", "x"), "tpm2.item"),
    "null-event-log": (lambda: changed("event_log", None), "encoding.base64url"),
    "trailing-garbage": (lambda: DATA + b" ", "statement.encoding"),
    "trailing-newline": (lambda: DATA + b"\n", "statement.encoding"),
    "duplicate-key": (lambda: DATA[:-1] + b',"kind":"tpm2"}', "statement.encoding"),
    "white-space": (lambda: DATA.replace(b'":"', b'": "', 1), "statement.encoding"),
    "keys-unsorted": (
        lambda: json.dumps(dict(reversed(ITEM.items())), separators=(",", ":")).encode(),
        "statement.encoding",
    ),
    "array": (lambda: b"[]", "statement.encoding"),
    "not-json": (lambda: b"tpm2", "statement.encoding"),
    "oversize": (lambda: changed("event_log", "A" * max_item("tpm2")), "statement.encoding"),
    "base64-padded": (lambda: changed("ak_public", ITEM["ak_public"] + "="), "encoding.base64url"),
    "base64-other-alphabet": (lambda: changed("ak_public", "+/"), "encoding.base64url"),
    "bytes-as-number": (lambda: changed("ak_public", 7), "encoding.base64url"),
    "bytes-as-object": (lambda: changed("ek_certificate", {}), "encoding.base64url"),
    "certificate-trailing-garbage": (
        lambda: changed("ek_certificate", b64u(MACHINE.ek_certificate + b"\xff")),
        "x509.encoding",
    ),
    "certificate-empty": (lambda: changed("ak_certificate", ""), "x509.encoding"),
    "chain-as-string": (lambda: changed("ek_chain", ITEM["ek_certificate"]), "tpm2.item"),
    "chain-of-nine": (lambda: changed("ek_chain", [ITEM["ek_certificate"]] * 9), "tpm2.item"),
    "chain-of-garbage": (lambda: changed("ak_chain", ["AAAA"]), "x509.encoding"),
    "public-with-size": (
        lambda: changed(
            "key_public", b64u(len(MACHINE.tpm.key_public).to_bytes(2, "big") + MACHINE.tpm.key_public)
        ),
        "tpm2.public",
    ),
    "certify-extra-key": (lambda: changed("certify.more", ""), "tpm2.item"),
    "certify-without-signature": (lambda: changed("certify.signature", ...), "tpm2.item"),
    "quote-as-array": (lambda: changed("quote", [1, 2]), "tpm2.item"),
    "quote-attest-empty": (lambda: changed("quote.attest", ""), "tpm2.attest"),
    "quote-signature-empty": (lambda: changed("quote.signature", ""), "tpm2.signature"),
    "pcrs-array": (lambda: changed("pcrs", []), "tpm2.item"),
    "pcrs-unknown-bank": (lambda: changed("pcrs", {"sm3": {"0": b64u(bytes(32))}}), "tpm2.item"),
    "pcrs-empty-bank": (lambda: changed("pcrs.sha256", {}), "tpm2.item"),
    "pcrs-number-with-zero": (lambda: changed("pcrs.sha256.00", b64u(bytes(32))), "tpm2.item"),
    "pcrs-number-32": (lambda: changed("pcrs.sha256.32", b64u(bytes(32))), "tpm2.item"),
    "pcrs-negative": (lambda: changed("pcrs.sha256.-1", b64u(bytes(32))), "tpm2.item"),
    "pcrs-value-short": (lambda: changed("pcrs.sha256.0", b64u(bytes(31))), "tpm2.item"),
    "pcrs-value-of-another-bank": (lambda: changed("pcrs.sha256.0", b64u(bytes(48))), "tpm2.item"),
    "binding-without-path": (lambda: changed("binding.path", ...), "tpm2.item"),
    "binding-index-outside": (lambda: changed("binding.leaf_index", 2), "tpm2.item"),
    "binding-index-negative": (lambda: changed("binding.leaf_index", -1), "tpm2.item"),
    "binding-index-boolean": (lambda: changed("binding.leaf_index", True), "tpm2.item"),
    "binding-size-zero": (lambda: changed("binding.tree_size", 0), "tpm2.item"),
    "binding-size-text": (lambda: changed("binding.tree_size", "2"), "tpm2.item"),
    "binding-node-short": (lambda: changed("binding.path", [b64u(bytes(31))]), "tpm2.item"),
    "binding-path-of-65": (lambda: changed("binding.path", [b64u(bytes(32))] * 65), "tpm2.item"),
    "event-log-garbled": (lambda: changed("event_log", "AAAA"), "tpm2.event_log"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    make, code = REFUSED[name]
    with pytest.raises(RluError) as refused:
        tpm2.parse(make())
    assert refused.value.code == code


def test_what_would_be_refused_is_not_put_together() -> None:
    parts = MACHINE.parts(BINDING)
    with pytest.raises(Malformed) as refused:
        tpm2.encode(
            ek_certificate=parts.ek_certificate + b"\xff",
            ek_chain=parts.ek_chain,
            ak_public=parts.ak_public,
            ak_certificate=parts.ak_certificate,
            ak_chain=parts.ak_chain,
            key_public=parts.key_public,
            certify=parts.certify,
            quote=parts.quote,
            pcrs=parts.pcrs,
            binding=tpm2.BindingPath(parts.leaf_index, parts.path, parts.tree_size),
        )
    assert refused.value.code == "x509.encoding"


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        tpm2.parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
PATHS = [
    *REQUIRED,
    "event_log",
    "certify.attest",
    "quote.signature",
    "pcrs.sha256",
    "pcrs.sha256.0",
    "binding.path",
]


@given(st.sampled_from(PATHS), JSON)
def test_any_json_anywhere_raises_only_our_error(path: str, value: Any) -> None:
    data = changed(path, value)
    code_of(lambda: tpm2.parse(data))


BINARY = ["ek_certificate", "ak_certificate", "ak_public", "key_public", "event_log"]
SIGNED = ["certify.attest", "certify.signature", "quote.attest", "quote.signature"]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_damage_inside_is_refused_by_parser_or_step_with_its_own_code(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(BINARY + SIGNED))
    inner: Any = ITEM
    for name in path.split("."):
        inner = inner[name]
    raw = bytearray(_unb64u(inner))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    codes = failures(changed(path, b64u(bytes(raw))), BINDING, MACHINE.ek_roots, MACHINE.registrars)
    for code in codes:
        assert code.startswith("parse: ") or code.rsplit(".", 1)[0] in STEPS, code
    if path != "event_log":  # a type or note of an event that nothing measures may change
        assert codes


def _unb64u(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
