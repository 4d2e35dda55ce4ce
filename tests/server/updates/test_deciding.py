"""Later and earlier, paths, and when an update is due."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.errors import RluError
from rlu_server.updates import addresses, deciding
from rlu_server.updates.deciding import APART_S, Applied, Candidate, check_paths, due, relation
from rlu_server.updates.errors import Misconfigured, UpdateRefused
from rlu_server.updates.store import VERSION

NOW = 1_800_000_000
FILES = {"config.json": bytes(32), "model.safetensors": bytes(31) + b"\1"}


def candidate(release: int | None, **files: bytes) -> Candidate:
    return Candidate({**FILES, **files}, release, bytes(32))


def applied(release: int | None, **files: bytes) -> Applied:
    return Applied(release, candidate(release, **files).version)


A, B = candidate(5), candidate(5, more=bytes(32))
RELATIONS: dict[str, tuple[Candidate, str | None, Applied | None, bool, str]] = {
    "served": (A, A.version, applied(5), False, "current"),
    "served, whatever is allowed": (A, A.version, applied(9), True, "current"),
    "the first": (A, None, None, False, "wanted"),
    "the first, without a number": (candidate(None), None, None, False, "wanted"),
    "newer": (A, "x", applied(4), False, "wanted"),
    "the first with a number": (A, "x", applied(None), False, "wanted"),
    "rolled back": (A, "x", applied(5), False, "held"),
    "older": (A, "x", applied(6), False, "update.downgrade"),
    "another with the same number": (B, "x", applied(5), False, "update.downgrade"),
    "without a number": (candidate(None), "x", applied(4), False, "update.no_release"),
    "another without a number": (
        candidate(None, more=bytes(32)),
        "x",
        applied(None),
        False,
        "update.no_release",
    ),
    "older, allowed": (A, "x", applied(6), True, "wanted"),
    "rolled back, allowed": (A, "x", applied(5), True, "wanted"),
    "without a number, allowed": (candidate(None), "x", applied(4), True, "wanted"),
}


@pytest.mark.parametrize("name", RELATIONS)
def test_relation(name: str) -> None:
    offered, current, highest, allowed, expected = RELATIONS[name]
    try:
        found: str = relation(offered, current, highest, allow_downgrade=allowed)
    except UpdateRefused as error:
        found = error.code
    assert found == expected


def test_versions_are_named_by_number_and_files() -> None:
    assert VERSION.fullmatch(A.version)
    assert VERSION.fullmatch(candidate(None).version)
    assert VERSION.fullmatch(candidate((1 << 53) - 1).version)
    assert A.version.startswith("000005-")
    assert A.version != B.version
    assert Candidate(dict(reversed(FILES.items())), 5, b"another signer").version == A.version


@given(
    st.dictionaries(st.text("ab/", min_size=1, max_size=4), st.binary(min_size=32, max_size=32), max_size=4)
)
def test_other_files_are_another_version(files: dict[str, bytes]) -> None:
    one = Candidate(files, 1, b"")
    for path, digest in files.items():
        without = {name: value for name, value in files.items() if name != path}
        assert Candidate(without, 1, b"").digest != one.digest
        assert Candidate({**without, path + "x": digest}, 1, b"").digest != one.digest
        assert Candidate({**files, path: bytes([digest[0] ^ 1]) + digest[1:]}, 1, b"").digest != one.digest


BAD_PATHS = {
    "absolute": ["/etc/passwd"],
    "up": ["../x"],
    "up within": ["a/../../x"],
    "here": ["./x"],
    "empty": [""],
    "double": ["a//b"],
    "ends in a slash": ["a/"],
    "NUL": ["a\0b"],
    "no UTF-8": ["a\udc80"],
    "a name of 256 bytes": ["é" * 128],
    "long": ["a/" * 600 + "x"],
    "the signature": ["model.sig"],
    "a file that is a folder too": ["a", "a/b"],
    "deeper": ["a/b", "a/b/c/d"],
}


@pytest.mark.parametrize("name", BAD_PATHS)
def test_paths_that_cannot_be_files_of_a_model(name: str) -> None:
    with pytest.raises(UpdateRefused) as caught:
        check_paths(dict.fromkeys(["config.json", *BAD_PATHS[name]], bytes(32)))
    assert (caught.value.code, caught.value.exit_code) == ("update.path", 10)


def test_paths_that_can() -> None:
    check_paths(
        dict.fromkeys(["config.json", "a/b", "a/c", "ab", ".hidden", "a b+ü~", "x/model.sig", "a..b"], b"")
    )


def test_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_FILES", 2)
    check_paths(dict.fromkeys("ab", b""))
    with pytest.raises(UpdateRefused, match="more than 2"):
        check_paths(dict.fromkeys("abc", b""))


def test_when_it_is_due() -> None:
    assert not due("manual", None, NOW)
    assert due("daily", None, NOW)
    assert due("weekly", None, NOW)
    for schedule in ("daily", "weekly"):
        apart = APART_S[schedule]
        assert not due(schedule, NOW, NOW)
        assert not due(schedule, NOW - apart + 1, NOW)
        assert due(schedule, NOW - apart, NOW)
        assert due(schedule, NOW + 1, NOW), "a clock that was ahead does not stop updates for good"
    assert APART_S["daily"] < 86400 < APART_S["weekly"] < 7 * 86400


SOURCES: dict[str, Any] = {
    "/mnt/qwen": addresses.Directory("/mnt/qwen"),
    "https://h/m": addresses.Web("https://h/m/"),
    "https://h:8443/m/": addresses.Web("https://h:8443/m/"),
    "s3://models": addresses.Bucket("https://s3.eu-1.amazonaws.com", "models", "", "eu-1"),
    "s3://models/a/b/": addresses.Bucket("https://s3.eu-1.amazonaws.com", "models", "a/b/", "eu-1"),
    "oci://r:5000/a/b:1.0": addresses.Artefact("https://r:5000", "a/b", "1.0"),
    f"oci://r.example/a@sha256:{'0' * 64}": addresses.Artefact(
        "https://r.example", "a", f"sha256:{'0' * 64}"
    ),
    "hub://Qwen/Qwen3@main": addresses.Web("https://huggingface.co/Qwen/Qwen3/resolve/main/"),
    "hub://o/n@refs/pr/1": addresses.Web("https://huggingface.co/o/n/resolve/refs%2Fpr%2F1/"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_sources(source: str) -> None:
    assert addresses.parse(source, "", "eu-1") == SOURCES[source]


def test_another_endpoint() -> None:
    given = "https://mirror:9000/"
    for source in ("s3://models/a", "oci://r/a:1", "hub://o/n@main"):
        assert addresses.own_host(addresses.parse(source, given)) == "mirror:9000"
    assert addresses.own_host(addresses.parse("https://h/m")) == "h:443"
    assert addresses.own_host(addresses.parse("/m")) is None


def test_addresses_of_files() -> None:
    path = "sub/a b+ü~?#.txt"
    quoted = "sub/a%20b%2B%C3%BC~%3F%23.txt"
    bucket = addresses.parse("s3://models/p", "https://h")
    web = addresses.parse("https://h/m")
    assert isinstance(bucket, addresses.Bucket)
    assert isinstance(web, addresses.Web)
    assert bucket.url(path) == f"https://h/models/p/{quoted}"
    assert web.url(path) == f"https://h/m/{quoted}"


@pytest.mark.parametrize(
    "source",
    [
        "models",
        "ftp://h/m",
        "https://h/m?token=x",
        "s3://",
        "s3://A/b",
        "oci://r/a",
        "oci://r/A:1",
        "oci://r/a@sha256:0",
        "oci://a:1",
        "hub://owner@main",
        "hub://o/n",
        "hub://../n@main",
    ],
)
def test_what_is_no_source(source: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        addresses.parse(source)
    assert (caught.value.code, caught.value.exit_code) == ("update.source", 2)
    assert issubclass(Misconfigured, RluError)
