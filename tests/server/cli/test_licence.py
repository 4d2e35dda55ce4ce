"""`rlu licence` as vendor, operator and auditor use it; `validate` is tested in tests/server/licence/test_online.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from fakes.deployment import Deployment
from fakes.machine import Machine
from fakes.terminal import Ran, rlu
from fakes.tpm import FakeTpm
from fakes.vendor import DAY, Vendor
from rlu_attestation.encoding import unb64u
from rlu_attestation.mentions import LicenceMention
from rlu_server.licence.document import Licence, digest


class Desk:
    """A vendor's and an operator's files in one directory."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys
        self.vendor = Vendor("ES256")
        self.key, self.public = directory / "vendor.pem", directory / "vendor.pub.pem"
        self.key.write_bytes(self.vendor.private)
        self.public.write_bytes(self.vendor.public)
        self.config = directory / "rlu.toml"
        self.installed = directory / "licence.jws"
        self.config.write_text(
            f'state_dir = "{directory}"\n[licence]\nfile = "{self.installed}"\nvendor_keys = ["{self.public}"]\n'
        )
        self.file = directory / "new.jws"

    def run(self, *arguments: object) -> Ran:
        configured = () if arguments[0] == "issue" else ("--config", self.config)
        return rlu(self._capsys, "licence", *arguments, *configured)

    def issue(self, *more: object, out: Path | None = None, days: int = 30) -> Path:
        path = self.file if out is None else out
        ran = self.run(
            "issue", "--key", self.key, "--out", path, "--id", "A-17", "--organisation", "ACME \x1b[31m", "--vendor", "Example",
            "--days", days, "--nodes", 1, *more,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        assert "\x1b" not in ran.out
        return path

    def refusal(self, *arguments: object) -> tuple[int, str]:
        ran = self.run(*arguments, "--json")
        return ran.code, ran.json["code"]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_issued_verified_installed_shown(desk: Desk) -> None:
    desk.issue("--feature", "b", "--feature", "a", "--grace-days", 3)
    licence = Licence.verify(desk.file.read_text().strip(), [desk.vendor.key.public_key()])
    assert (licence.features, licence.grace_s, licence.nodes) == (("a", "b"), 3 * DAY, 1)
    assert licence.expires_at - licence.not_before == 30 * DAY
    assert desk.run("verify", desk.file).code == 0
    assert desk.refusal("show") == (2, "licence.file")
    ran = desk.run("install", desk.file)
    assert (ran.code, "\x1b" in ran.out) == (0, False)
    found: dict[str, Any] = desk.run("show", "--json").json
    assert (found["state"], found["organisation"], found["ends"]) == (
        "valid",
        "ACME \x1b[31m",
        licence.expires_at,
    )
    assert unb64u(found["digest"]) == digest(desk.file.read_text().strip())


def test_as_of(desk: Desk) -> None:
    desk.issue("--begins", "2020-01-01T00:00:00Z", days=10)

    def state(when: str) -> tuple[int, str]:
        ran = desk.run("verify", desk.file, "--as-of", when, "--json")
        return ran.code, ran.json["state"]

    assert state("2019-12-31T00:00:00Z") == (10, "not_yet")
    assert state("2020-01-05T00:00:00Z") == (0, "valid")
    assert state("2020-01-12T00:00:00Z") == (0, "grace")
    assert state("2020-02-12T00:00:00Z") == (10, "expired")


def test_what_is_over_is_not_installed(desk: Desk) -> None:
    desk.installed.write_text("what was there")
    desk.issue("--begins", "2020-01-01T00:00:00Z", days=10)
    assert desk.refusal("install", desk.file) == (10, "licence.expired")
    other = desk.directory / "other.jws"
    other.write_text(Vendor().licence().sign(Vendor().key))
    assert desk.refusal("install", other) == (10, "licence.key")
    other.write_text("a licence")
    assert desk.refusal("install", other) == (30, "licence.encoding")
    assert desk.installed.read_text() == "what was there"


def test_keys(desk: Desk) -> None:
    desk.issue()
    another = desk.directory / "another.pem"
    another.write_bytes(Vendor().public)
    assert desk.refusal("verify", desk.file, "--vendor-key", another) == (10, "licence.key")
    assert desk.run("verify", desk.file, "--vendor-key", another, "--vendor-key", desk.public).code == 0
    another.write_text("no key")
    assert desk.refusal("verify", desk.file, "--vendor-key", another) == (2, "policy.key")
    desk.config.write_text(f'[licence]\nfile = "{desk.file}"\n')
    assert desk.refusal("show") == (2, "licence.vendor_keys")


def test_none_is_needed(desk: Desk) -> None:
    desk.config.write_text("")
    assert desk.refusal("show") == (2, "licence.none")


def test_counting(desk: Desk) -> None:
    desk.issue(out=desk.installed)
    now = int(time.time())
    mention = LicenceMention(digest(desk.installed.read_text().strip()), now)
    paths = []
    for number in range(2):
        node = Deployment(machine=Machine(tpm=FakeTpm(label=f"node{number}")), software_key=True, at=now)
        paths.append(desk.directory / f"{number}.jws")
        paths[-1].write_text(node.attestation(licence=mention)[0] + "\n")
    ran = desk.run("nodes", paths[0], "--json")
    assert (ran.code, len(ran.json["serving"]), ran.json["nodes"]) == (0, 1, 1)
    assert desk.run("nodes", *paths).code == 10
    assert desk.run("nodes", *paths, "--as-of", "2020-01-01T00:00:00Z").code == 0
    paths[0].write_text("no statement")
    assert desk.refusal("nodes", *paths) == (30, "statement.encoding")
