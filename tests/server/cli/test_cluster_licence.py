"""`rlu cluster licence`: the vendor's answer arrives in the ConfigMap that the attestors mount, or nothing changes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fakes.kubernetes import FakeKubernetes
from fakes.server import Answer as Reply
from fakes.server import FakeServer
from fakes.vendor import DAY, Vendor, WebServer
from rlu_server.cli import cluster
from rlu_server.licence.document import Answer, Question
from rlu_server.licence.place import place_of
from rlu_server.settings import load

VENDOR = Vendor()
NOW = int(time.time())
CA = Path("/etc/ssl/certs/ca-certificates.crt")
MAP = "/api/v1/namespaces/ns/configmaps/rlu-licence"
DEAD = "https://127.0.0.1:1"


class Site:
    """A cluster with two instances, and the vendor's server; `says` changes the answer to each question."""

    def __init__(self, directory: Path, api: FakeKubernetes, vendor: WebServer, instances: list[str]) -> None:
        self.directory, self.api, self.vendor, self.instances = directory, api, vendor, instances
        self.asked: list[Question] = []
        self.says: Callable[[int], dict[str, Any]] = lambda _: {}
        vendor.answer = self._answer
        VENDOR.install(directory, not_before=NOW - DAY, expires_at=NOW + 90 * DAY)
        self.config = directory / "rlu.toml"
        self.configure(f'validation_url = "{vendor.url}"\nca_file = "{vendor.ca_file}"')

    def configure(self, more: str) -> None:
        self.config.write_text(
            f'state_dir = "{self.directory}/none"\n[licence]\nfile = "{self.directory}/licence.jws"\n'
            f'vendor_keys = ["{self.directory}/vendor.pub.pem"]\nanswer_file = "{self.mounted / "answer.jws"}"\n{more}\n'
        )

    @property
    def mounted(self) -> Path:
        return self.directory / "mounted"

    def run(self, *instances: str) -> Result:
        words = ["licence", "--configmap", "rlu-licence", "--config", self.config, "--namespace", "ns"]
        words += ["--api-server", self.api.url, "--api-ca", CA, "--api-token", self.api.token]
        for one in instances or self.instances:
            words += ["--instance", one]
        return CliRunner().invoke(cluster.app, [str(word) for word in words])

    def seen(self) -> str | None:
        """What the attestor takes from the mounted ConfigMap."""
        self.mounted.mkdir(exist_ok=True)
        for name, text in self.api.objects[MAP].get("data", {}).items():
            (self.mounted / name).write_text(text)
        place = place_of(load(self.config, {}))
        assert place is not None
        found = place.find().answer
        return None if found is None else found.status

    def _answer(self, content: bytes) -> bytes:
        question = Question.parse(content)
        self.asked.append(question)
        digest = hashlib.sha256(question.statement.encode()).digest()
        made = Answer(question.licence, "good", int(time.time()), digest)
        return (replace(made, **self.says(len(self.asked))).sign(VENDOR.key) + "\n").encode()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        api = stack.enter_context(FakeKubernetes(tmp_path))
        api.put(MAP, {})
        vendor = stack.enter_context(WebServer(tmp_path))
        instances = []
        for name in ("a", "b"):
            place = tmp_path / name
            place.mkdir()
            instances.append(stack.enter_context(FakeServer(place)).url)
        yield Site(tmp_path, api, vendor, instances)


def events(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"event"')]


def test_each_instance_is_asked_about_and_all_see_the_answer(site: Site) -> None:
    assert site.seen() is None
    done = site.run()
    assert done.exit_code == 0, done.output
    assert [one["event"] for one in events(done)] == ["licence_answered"] * 2 + ["licence_published"]
    assert {one.licence for one in site.asked} == {"A-17"}
    assert len(site.asked) == 2
    assert site.seen() == "good"
    assert not (site.directory / "none").exists(), "the job has no state"
    left = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"time"')]
    assert [(one["job"], one["result"]) for one in left] == [("licence", "sent")] * 2


def test_a_withdrawal_counts_for_all_until_it_is_taken_back(site: Site) -> None:
    site.says = lambda number: {"status": "withdrawn" if number == 1 else "good"}
    done = site.run()
    assert done.exit_code == 10
    assert events(done)[-1] == {"event": "licence_published", "status": "withdrawn", "changed": True}
    assert site.seen() == "withdrawn"
    site.says = lambda _: {}
    assert site.run().exit_code == 0
    assert site.seen() == "good"


def test_an_instance_that_is_not_up_costs_the_exit_code_only(site: Site) -> None:
    done = site.run(DEAD, site.instances[0])
    assert done.exit_code == 3
    assert events(done)[0] == {"event": "instance_skipped", "instance": 0, "code": "server.unreachable"}
    assert site.seen() == "good"


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ({"licence": "B-1"}, "licence.answer.other"),
        ({"issued_at": NOW - 3600}, "licence.answer.time"),
        ({"issued_at": NOW + 2 * DAY}, "licence.answer.time"),
    ],
    ids=["another", "older", "another-day"],
)
def test_answers_that_do_not_count_leave_what_was_published(
    site: Site, says: dict[str, Any], code: str
) -> None:
    assert site.run().exit_code == 0
    before = dict(site.api.objects[MAP]["data"])
    site.says = lambda _: {"status": "withdrawn", **says}
    done = site.run(site.instances[0])
    assert done.exit_code == 10
    assert events(done) == [{"event": "vendor_skipped", "instance": 0, "code": code}]
    assert site.api.objects[MAP]["data"] == before


def test_without_an_address_or_a_configmap_nothing_is_sent(site: Site) -> None:
    site.configure("")
    bare = site.run()
    assert (bare.exit_code, "licence.none" in bare.output) == (2, True)
    site.configure(f'validation_url = "{site.vendor.url}"\nca_file = "{site.directory / "absent.pem"}"')
    blind = site.run(site.instances[0])
    assert (blind.exit_code, events(blind)[0]["code"]) == (2, "licence.file")
    del site.api.objects[MAP]
    lost = site.run()
    assert (lost.exit_code, "cluster.absent" in lost.output) == (10, True)
    assert site.asked == []


def test_a_server_without_a_statement_is_skipped(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "c"
    place.mkdir()
    with FakeServer(place) as broken:
        broken.answers["/v1/rlu/attestation"] = Reply(200, b"{}")
        done = site.run(broken.url)
    assert done.exit_code == 30
    assert [one["event"] for one in events(done)] == ["instance_skipped"]
    assert (site.asked, site.seen()) == ([], None)
