"""Parsers of statements, JWS and COSE: arbitrary input raises only our errors, and any change to a genuine one is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation import canonical, cose, jose
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.statements import Close, Receipt, SessionStatement

VECTORS = Path(__file__).resolve().parents[2] / "attestation" / "vectors"
SESSIONS = json.loads((VECTORS / "sessions.json").read_text())
INSTANCES = {
    case["name"]: case["payload"].encode() for case in json.loads((VECTORS / "instances.json").read_text())
}
INSTANCE = INSTANCES["with-evidence"]
SEVERAL = INSTANCES["with-further-models"]
SESSION = SESSIONS["sessions"][0]["statement"].encode()
IMPLICIT = SESSIONS["sessions"][1]["statement"].encode()
RECEIPT = SESSIONS["receipts"][0]["statement"].encode()
SILENT = SESSIONS["receipts"][3]["statement"].encode()
CLOSE = SESSIONS["closes"][0]["statement"].encode()

GENUINE: tuple[tuple[str, Callable[[bytes], Any], bytes], ...] = (
    ("instance", InstanceClaims.parse, INSTANCE),
    ("several", InstanceClaims.parse, SEVERAL),
    ("session", SessionStatement.parse, SESSION),
    ("implicit", SessionStatement.parse, IMPLICIT),
    ("receipt", Receipt.parse, RECEIPT),
    ("silent", Receipt.parse, SILENT),
    ("close", Close.parse, CLOSE),
)
OPTIONAL = {
    "instance": {"eat_nonce", "submods"},
    "several": {"eat_nonce", "rlu_further_models"},
    "session": {"rlu_policies"},
    "implicit": {"cnf", "rlu_opening"},
    "receipt": {"rlu_usage", "rlu_forwarded"},
    "silent": {"rlu_reason"},
    "close": set[str](),
}
cases = pytest.mark.parametrize(("name", "parse", "data"), GENUINE, ids=[name for name, _, _ in GENUINE])


@cases
def test_every_claim_is_needed_or_optional(name: str, parse: Callable[[bytes], Any], data: bytes) -> None:
    payload = canonical.decode(data)
    for claim in payload:
        without = canonical.encode({key: value for key, value in payload.items() if key != claim})
        if claim in OPTIONAL[name]:
            assert parse(without).encode() == without
        else:
            with pytest.raises(Malformed):
                parse(without)


@cases
def test_no_claim_may_be_added_or_be_of_another_type(
    name: str, parse: Callable[[bytes], Any], data: bytes
) -> None:
    payload = canonical.decode(data)
    with pytest.raises(Malformed) as refusal:
        parse(canonical.encode({**payload, "rlu_unknown": 1}))
    assert refusal.value.code == "statement.claims"
    for claim in payload:
        for other in (None, -1, [], {"x": 1}, "", "\u0410", True, 2**53 - 1, ["x"], "x" * 513):
            if type(other) is type(payload[claim]) and claim not in ("eat_profile", "iss", "ueid"):
                continue
            with suppress(Malformed):
                again = parse(canonical.encode({**payload, claim: other}))
                # What is read must be what was written, whatever it is.
                assert again.encode() == canonical.encode({**payload, claim: other})


@cases
@given(st.data())
def test_arbitrary_changes_raise_nothing_else(
    name: str, parse: Callable[[bytes], Any], data: bytes, draw: st.DataObject
) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.integers(0, len(changed) - 1))
        changed[place] = draw.draw(st.integers(0, 255))
    with suppress(Malformed):
        assert parse(bytes(changed)).encode() == bytes(changed)


def test_statements_are_not_interchangeable() -> None:
    for name, _, data in GENUINE:
        for other, parse, _ in GENUINE:
            if (
                {name, other} <= {"session", "implicit"}
                or {name, other} <= {"receipt", "silent"}
                or {name, other} <= {"instance", "several"}
                or name == other
            ):
                continue
            with pytest.raises(Malformed):
                parse(data)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("complete-without-content", {"rlu_status": "complete"}),
        ("with-a-response-only", {"rlu_response": {"bytes": 1, "commitment": "A" * 43}}),
        ("with-a-request-only", {"rlu_request": {"bytes": 1, "commitment": "A" * 43}}),
        ("forwarded-without-request", {"rlu_forwarded": {"bytes": 1, "commitment": "A" * 43}}),
    ],
)
def test_only_a_failed_receipt_is_without_content(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        Receipt.parse(canonical.encode({**canonical.decode(SILENT), **changes}))


def test_a_channel_has_a_key_or_is_plain() -> None:
    payload = canonical.decode(SESSION)
    for channel in ({"origin": "plaintext", "spki_sha256": "A" * 43}, {"origin": "provisioned"}):
        with pytest.raises(Malformed):
            SessionStatement.parse(canonical.encode({**payload, "rlu_channel": channel}))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    for _, parse, _ in GENUINE:
        with pytest.raises(Malformed):
            parse(data)
    for parse in (cose.parse_head, cose.parse_inclusion, cose.parse_consistency):
        with pytest.raises(Malformed):
            parse(data)


@given(st.text(max_size=200) | st.from_regex(r"[\w-]{0,40}\.[\w-]{0,40}\.[\w-]{0,90}", fullmatch=True))
def test_arbitrary_text_is_no_jws(text: str) -> None:
    with pytest.raises(RluError):
        jose.jws_parse(text)


HEADS = json.loads((VECTORS / "heads.json").read_text())


@given(st.data())
def test_a_changed_receipt_is_malformed_or_does_not_verify(draw: st.DataObject) -> None:
    data = bytearray.fromhex(HEADS["inclusion"]["receipt"])
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    key, leaf = jose.public_key(HEADS["jwk"]), bytes.fromhex(HEADS["inclusion"]["leaf"])
    with pytest.raises(RluError):
        cose.parse_inclusion(bytes(data)).verify(key, leaf)


@pytest.mark.parametrize("part", ["r", "s"])
@pytest.mark.parametrize("value", [0, jose.P256_ORDER, 2**256 - 1])
def test_signatures_outside_the_group_are_refused(part: str, value: int) -> None:
    signature = bytes.fromhex(HEADS["signature"])
    forced = value.to_bytes(32, "big")
    forged = forced + signature[32:] if part == "r" else signature[:32] + forced
    with pytest.raises(RluError) as refusal:
        jose.verify_es256(jose.public_key(HEADS["jwk"]), bytes.fromhex(HEADS["sig_structure"]), forged)
    assert refusal.value.code == "signature.invalid"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("another-curve", {"crv": "P-384"}),
        ("another-type", {"kty": "RSA"}),
        ("with-a-private-part", {"d": "AAAA"}),
        ("short-coordinate", {"x": "AAAA"}),
        ("off-the-curve", {"x": "A" * 43}),
    ],
)
def test_what_is_no_instance_key(name: str, change: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        jose.public_key({**HEADS["jwk"], **change})


def test_further_models_are_read() -> None:
    claims = InstanceClaims.parse(SEVERAL)
    assert [one.name for one in claims.models] == ["demo", "second", "third"]
    assert claims.models[0].manifest == claims.model_manifest
    assert "rlu_further_models" not in json.loads(INSTANCE), "one model is stated as ever"


@pytest.mark.parametrize(
    "change",
    [
        lambda models: models.clear(),
        lambda models: models.append(models[0]),
        lambda models: models[0].update(name="demo"),
        lambda models: models[0].update(name=""),
        lambda models: models[0].pop("manifest_sha256"),
        lambda models: models[0].pop("engine"),
        lambda models: models[0].update(size=1),
        lambda models: models[0]["engine"].update(image_sha256="x"),
        lambda models: models.extend({**models[0], "name": f"m{n}"} for n in range(62)),
        lambda models: models.append("second"),
    ],
)
def test_further_models_of_another_form_refuse(change: Callable[[list[Any]], object]) -> None:
    value = canonical.decode(SEVERAL)
    change(value["rlu_further_models"])
    with pytest.raises(Malformed) as refused:
        InstanceClaims.parse(canonical.encode(value))
    assert refused.value.code == "statement.claims"
