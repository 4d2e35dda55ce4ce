"""`rlu update` as an operator and a timer call it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakes import model_vendor
from fakes.kubernetes import FakeKubernetes
from fakes.terminal import Ran, rlu
from rlu_server.outreach.cluster import Cluster
from rlu_server.updates import rolling
from rlu_server.updates.store import Store

DAY = 86400


class Site:
    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._capsys = capsys
        self.config = home / "rlu.toml"
        self.signer = model_vendor.public(home)
        self.store = Store(home / "store")
        self.configure()

    def configure(self, schedule: str = "manual", **update: str) -> None:
        fields = "".join(f"{name} = {json.dumps(value)}\n" for name, value in update.items())
        self.config.write_text(
            f'state_dir = "{self.home}"\n[model]\nname = "m"\npath = "{self.home / "store" / "current"}"\n'
            f'signers = ["{self.signer}"]\nupdate_schedule = "{schedule}"\n[update]\nreserve_bytes = 0\n{fields}'
        )

    def offer(self, number: int, **how: Any) -> Path:
        place = model_vendor.make(self.home / f"m{number}", number, b"weights %d" % number)
        self.configure(source=str(place), **how)
        return place

    def run(self, *words: object) -> Ran:
        return rlu(self._capsys, "update", *words, "--config", self.config)


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def events(ran: Ran) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in ran.err.splitlines() if line.startswith("{")]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def code(ran: Ran) -> str:
    return ran.err.rpartition("[")[2].strip().rstrip("]")


def test_a_life(site: Site) -> None:
    assert "none yet" in site.run("status").out
    site.offer(1)
    checked = site.run("check", "--json").json
    assert (checked["result"], checked["release"]) == ("wanted", 1)
    assert site.run("check").out.startswith("there is another: 000001-")
    fetched = site.run("fetch", "--json").json
    assert fetched == {"result": "fetched", "exit_code": 0, "version": checked["version"]}
    assert "waits" in site.run("status").out
    applied = site.run("apply")
    assert applied.out.startswith("applied: 000001-")
    assert events(applied) == [{"event": "update.applied", "version": fetched["version"]}]
    assert site.run("check").out.startswith("up to date: ")

    site.offer(2)
    second = site.run("run", "--now", "--json").json
    assert second["result"] == "applied"
    back = site.run("rollback")
    assert back.out == f"rolled back: {fetched['version']} is what is served from now on\n"
    held = site.run("run", "--now")
    assert held.code == 0
    assert "rolled back" in held.out
    assert site.run("apply", second["version"], "--json").json["result"] == "applied"

    shown = site.run("status", "--json").json
    assert shown["current"] == second["version"]
    assert shown["highest"] == {"version": second["version"], "release": 2}
    assert [one["result"] for one in shown["history"]] == ["applied", "applied", "rolled_back", "applied"]
    assert shown["attempt"]["result"] == "applied"
    assert shown["last_success"] <= time.time()
    text = site.run("status").out
    assert f"current:  {second['version']}" in text
    assert f"here:     {fetched['version']}  served before" in text


def test_what_is_refused_is_told_and_changes_nothing(site: Site) -> None:
    site.offer(1)
    site.run("run", "--now")
    before = site.store.current()
    bad = site.offer(2)
    (bad / "config.json").write_text("{}")
    ran = site.run("run", "--now")
    assert (ran.code, code(ran)) == (10, "update.tampered")
    assert {"event": "update.failed", "code": "update.tampered"} in events(ran)
    assert site.store.current() == before
    assert "failed  update.tampered" in site.run("status").out
    ran = site.run("rollback")
    assert (ran.code, code(ran)) == (3, "update.no_previous")
    ran = site.run("apply", "000009-0123456789abcdef")
    assert (ran.code, code(ran)) == (2, "update.version")
    ran = site.run("apply", "../../etc")
    assert (ran.code, code(ran)) == (2, "update.version")


@pytest.mark.parametrize(
    ("schedule", "age", "runs"),
    [
        ("manual", None, False),
        ("manual", 30 * DAY, False),
        ("daily", None, True),
        ("daily", DAY // 2, False),
        ("daily", DAY, True),
        ("weekly", 2 * DAY, False),
        ("weekly", 7 * DAY, True),
    ],
)
def test_the_schedule(site: Site, schedule: str, age: int | None, runs: bool) -> None:
    site.offer(1)
    if age is not None:
        assert site.run("run", "--now").code == 0
        state = site.store.state()
        assert state.last_success is not None
        site.store.write_state(msgspec.structs.replace(state, last_success=state.last_success - age))
    site.offer(2, schedule=schedule)
    ran = site.run("run", "--json")
    assert ran.code == 0
    assert ran.json["result"] == ("applied" if runs else "not_due")


def test_a_failure_is_tried_again_at_the_next_call(site: Site) -> None:
    site.offer(1, schedule="weekly")
    assert site.run("run", "--json").json["result"] == "applied"
    state = site.store.state()
    site.store.write_state(msgspec.structs.replace(state, last_success=1))
    model = site.offer(2, schedule="weekly")
    content = (model / "config.json").read_bytes()
    (model / "config.json").unlink()
    assert site.run("run").code == 3
    (model / "config.json").write_bytes(content)
    assert site.run("run", "--json").json["result"] == "applied"


def test_where_nothing_can_be_noted_nothing_is_asked(site: Site, tmp_path: Path) -> None:
    with model_vendor.serving(tmp_path) as server:
        site.configure(source=f"{server.url}/m1")
        (site.home / "egress.jsonl").mkdir()
        ran = site.run("check")
        assert (ran.code, code(ran)) == (3, "update.file")
        assert server.asked == []
        ran = site.run("check", "--no-journal")
        assert (ran.code, code(ran)) == (3, "update.absent")
        assert [one["result"] for one in events(ran)] == ["begun", "update.absent"]


def test_the_first_run_makes_the_store_that_the_journal_is_in(site: Site) -> None:
    """As in a pod: the claim is empty, and the store is the only place that can be written."""
    model_vendor.make(site.home / "vendor" / "m", 1)
    with model_vendor.serving(site.home / "vendor") as server:
        site.configure(source=f"{server.url}/m/")
        text = site.config.read_text()
        site.config.write_text(text.replace(f'"{site.home}"', f'"{site.store.root}"', 1))
        assert not site.store.root.exists()
        assert site.run("run", "--now", "--json").json["result"] == "applied"
    journal = [json.loads(line) for line in (site.store.root / "egress.jsonl").read_text().splitlines()]
    assert journal[0]["result"] == "begun"
    assert len(journal) > 1


def test_a_state_directory_elsewhere_is_not_made(site: Site) -> None:
    site.offer(1)
    site.config.write_text(site.config.read_text().replace(f'"{site.home}"', f'"{site.home}/none"', 1))
    ran = site.run("run", "--now")
    assert (ran.code, code(ran)) == (3, "update.file")
    assert not (site.home / "none").exists()


def test_settings_that_do_not_do(site: Site) -> None:
    ran = site.run("check")
    assert (ran.code, code(ran)) == (2, "update.no_source")
    site.configure(source="models")
    ran = site.run("check")
    assert (ran.code, code(ran)) == (2, "update.source")
    site.configure(source="s3://models/x", credentials=str(site.home / "none"))
    ran = site.run("check")
    assert (ran.code, code(ran)) == (2, "update.credentials")
    site.configure(source="s3://models/x", ca_file=str(site.signer))
    ran = site.run("check")
    assert (ran.code, code(ran)) == (2, "update.ca_file")
    site.configure(source="s3://models/x", nonsense="1")
    ran = site.run("status")
    assert (ran.code, code(ran)) == (2, "update.settings")
    site.configure(rollout="nowhere")
    assert site.run("status").code == 2


def test_pods_are_rolled(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/apis/apps/v1/namespaces/ns/statefulsets/rlu"
    with FakeKubernetes(tmp_path) as api:
        api.put(path, {"spec": {"template": {"metadata": {"annotations": {"other": "1"}}}}})
        # No API server's certificate: this one speaks plain HTTP.
        cluster = Cluster(api.url, Path("/etc/ssl/certs/ca-certificates.crt"), api.token)
        monkeypatch.setattr(Cluster, "around", lambda *_: cluster)
        site.offer(1, rollout="ns/rlu")
        version = site.run("run", "--now", "--json").json["version"]
        notes = api.objects[path]["spec"]["template"]["metadata"]["annotations"]
        assert notes == {"other": "1", rolling.ANNOTATION: version}
        assert api.calls == [("PATCH", path)]
        site.offer(2, rollout="ns/gone")
        ran = site.run("run", "--now")
        assert (ran.code, code(ran)) == (10, "cluster.absent")
        assert site.store.current() != version, "the switch is made"
        site.configure(source=str(site.home / "m2"), rollout="ns/rlu")
        assert site.run("run", "--now", "--json").json["result"] == "current"
        notes = api.objects[path]["spec"]["template"]["metadata"]["annotations"]
        assert notes[rolling.ANNOTATION] == site.store.current()
