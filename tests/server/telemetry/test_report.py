"""Reports: the fields of docs/telemetry.md, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.vendor import Vendor
from rlu_attestation import signed_json
from rlu_attestation.errors import RluError
from rlu_server.telemetry.counters import counted
from rlu_server.telemetry.report import COUNTERS, TYPE, Report, compose, magnitude, parse, version_of

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "telemetry.md"
VENDOR = Vendor()
METRICS = b"""\
# TYPE rlu_receipts_total counter
rlu_receipts_total{status="complete"} 1234.0
rlu_receipts_total{status="failed"} 3.0
# TYPE rlu_sessions_opened_total counter
rlu_sessions_opened_total{kind="explicit"} 90.0
rlu_sessions_opened_total{kind="implicit"} 9.0
# TYPE rlu_tenant_exchanges_total counter
rlu_tenant_exchanges_total{tenant="acme-secret"} 5.0
# TYPE rlu_output_tokens_total counter
rlu_output_tokens_total 1.5e9
"""


def made(**changes: Any) -> Report:
    fields: dict[str, Any] = {
        "day": "2026-11-21", "version": "0.1.0", "key": "tpm2", "gpus": "none", "licensed": True, "engines": 1,
    }  # fmt: skip
    return compose(counted(METRICS), **(fields | changes))


def test_what_is_counted() -> None:
    report = made()
    assert (report.complete, report.failed, report.partial) == (4, 1, 0)
    assert report.sessions == 2  # the sum, 99
    assert report.output_tokens == 10
    assert report.engines == 1


def test_the_document_has_every_field_and_no_other() -> None:
    section = DOCUMENT.read_text("utf-8").split("## What is sent")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(Report.__struct_fields__)


def test_no_field_takes_a_text() -> None:
    """Each is a number of a few values, a word from a list, a date or a version."""
    schema = msgspec.json.schema(Report)["$defs"]["Report"]["properties"]
    for name, form in schema.items():
        bounded = (
            "enum" in form
            or "const" in form
            or form["type"] == "boolean"
            or {"minimum", "maximum"} <= form.keys()
        )
        assert bounded or name in ("day", "version"), (name, form)


def test_signed_and_read() -> None:
    text = made().sign(VENDOR.key)
    assert parse(text, VENDOR.key.public_key()) == made()
    assert made().sign(VENDOR.key) == text, "the same bytes each time"
    assert "acme" not in text
    with pytest.raises(RluError, match=r"telemetry\.key"):
        parse(text, Vendor().key.public_key())
    header, payload, signature = text.split(".")
    with pytest.raises(RluError, match=r"telemetry\.signature"):
        parse(
            f"{header}.{signed_json.sign(TYPE, {}, VENDOR.key).split('.')[1]}.{signature}",
            VENDOR.key.public_key(),
        )
    assert payload


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "acme"},
        {"complete": 20},
        {"complete": -1},
        {"complete": "4"},
        {"complete": True},
        {"day": "today"},
        {"day": "2026-11-21T10:00:00Z"},
        {"version": "0.1.0+acme.secret"},
        {"key": "acme"},
        {"gpus": "acme"},
        {"licensed": "acme"},
        {"profile": "tag:rlu.internal,2026:telemetry#2"},
    ],
    ids=str,
)
def test_nothing_else_is_a_report(change: dict[str, Any]) -> None:
    """Also if our own key signed it."""
    text = signed_json.sign(TYPE, {**msgspec.to_builtins(made()), **change}, VENDOR.key)
    with pytest.raises(RluError, match=r"telemetry\.report"):
        parse(text, VENDOR.key.public_key())


def test_a_field_that_is_missing() -> None:
    for name in Report.__struct_fields__:
        payload = msgspec.to_builtins(made())
        del payload[name]
        with pytest.raises(RluError, match=r"telemetry\.report"):
            parse(signed_json.sign(TYPE, payload, VENDOR.key), VENDOR.key.public_key())


@pytest.mark.parametrize(
    ("count", "digits"),
    [(-5, 0), (0, 0), (0.9, 0), (1, 1), (9, 1), (10, 2), (99, 2), (100, 3), (10.0**30, 19)],
)
def test_magnitudes(count: float, digits: int) -> None:
    assert magnitude(count) == digits


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.1.0", "0.1.0"),
        ("1.2", "1.2"),
        ("0.1.0+acme.secret", "0.1.0"),
        ("2.0.0rc1", "2.0.0"),
        ("acme", "0.0"),
    ],
)
def test_versions(text: str, version: str) -> None:
    assert version_of(text) == version
    assert made(version=text).version == version


@given(st.dictionaries(st.sampled_from(sorted(set(COUNTERS.values()))), st.floats(0, 1e25)))
def test_whatever_is_counted_fits(counts: dict[tuple[str, str], float]) -> None:
    report = compose(
        counts, day="2026-11-21", version="1.0", key="none", gpus="amd", licensed=False, engines=64
    )
    assert parse(report.sign(VENDOR.key), VENDOR.key.public_key()) == report


def test_metrics_that_are_none() -> None:
    for text in (b"\xff", b"<html>", b"rlu_receipts_total{"):
        with pytest.raises(RluError, match=r"telemetry\.unread"):
            counted(text)


def test_the_metrics_exist() -> None:
    """A counter that is renamed would be reported as nothing for ever."""
    source = (DOCUMENT.parent / "observability.md").read_text("utf-8")
    for name, _ in COUNTERS.values():
        assert f"`{name}`" in source, name
