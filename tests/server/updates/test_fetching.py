"""Interrupted, killed, resumed, slowed down; and sources that give something else than they should."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fakes import model_vendor
from fakes.model_vendor import ModelServer, serving
from rlu_attestation.errors import RluError
from rlu_server.models import measure
from rlu_server.outreach.http import Unreachable
from rlu_server.updates.errors import NotPossible, UpdateRefused
from rlu_server.updates.fetching import FIRST_PAUSE_S, TRIES, Pace
from waiting import wait_until

WEIGHTS = bytes(range(256)) * 1024
MODEL = "model.safetensors"


def code(work: Any, kind: type[RluError]) -> str:
    with pytest.raises(kind) as caught:
        work()
    return caught.value.code


def offered(site: Any, server: ModelServer, number: int = 1, **more: bytes) -> Path:
    place = model_vendor.make(site.home / "vendor" / str(number), number, WEIGHTS + b"%d" % number, **more)
    site.configure(source=f"{server.url}/{number}")
    return place


@pytest.fixture
def server(site: Any) -> Any:
    (site.home / "vendor").mkdir()
    with serving(site.home / "vendor") as made:
        yield made


def ranges(server: ModelServer) -> list[str | None]:
    return [
        one.headers.get("range") for one in server.asked if one.method == "GET" and one.path.endswith(MODEL)
    ]


def part_of(site: Any, place: Path) -> Path:
    """Where what was fetched of the weights lies."""
    name = hashlib.sha256((place / MODEL).read_bytes()).hexdigest()
    [found] = (site.store.root / "staging").glob(f"*/parts/{name}")
    return found


def test_a_connection_that_breaks_is_taken_up_where_it_broke(site: Any, server: ModelServer) -> None:
    place = offered(site, server)
    server.behaviour.cut_after, server.behaviour.cuts = 100_000, 2
    assert site.job().update().result == "applied"
    assert site.served() == measure(place).sha256
    assert ranges(server) == [None, "bytes=100000-", "bytes=200000-"]
    received = sum(one.received for one in site.crossings)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    number = (place / "rlu-release.json").stat().st_size  # looked at before, and fetched with the rest
    assert received == size + number, "no byte twice"
    assert site.pauses == [FIRST_PAUSE_S] * 2


def test_a_server_without_ranges(site: Any, server: ModelServer) -> None:
    place = offered(site, server)
    server.behaviour.ranges = False
    server.behaviour.cut_after, server.behaviour.cuts = 100_000, 1
    assert site.job().update().result == "applied"
    assert site.served() == measure(place).sha256


def test_a_server_that_gives_another_part(site: Any, server: ModelServer) -> None:
    offered(site, server)
    server.behaviour.cut_after, server.behaviour.cuts = 100_000, 1
    server.behaviour.headers = {"Content-Range": "bytes 5-9/10"}
    assert code(site.job().update, NotPossible) == "update.range"


def test_a_server_that_does_not_say_how_large(site: Any, server: ModelServer) -> None:
    offered(site, server)
    server.behaviour.length = False
    assert code(site.job().update, NotPossible) == "update.size"


def interrupted(site: Any, server: ModelServer) -> Path:
    """The source goes away in the middle of the weights, for longer than is waited for; gives the vendor's model."""
    place = offered(site, server)
    server.behaviour.cut_after, server.behaviour.cuts = 100_000, 1

    def away(path: str) -> None:
        if server.behaviour.cuts == 0:
            server.behaviour.status = 503

    server.on_answer = away
    assert code(site.job().update, Unreachable) == "relay.status"
    server.on_answer, server.behaviour.status = None, None
    assert part_of(site, place).stat().st_size == 100_000
    return place


def test_a_source_that_goes_away_is_asked_again_later(site: Any, server: ModelServer) -> None:
    place = interrupted(site, server)
    assert site.pauses == [FIRST_PAUSE_S * 2**n for n in range(TRIES - 1)]
    attempt = site.store.state().attempt
    assert (attempt.result, attempt.code) == ("failed", "relay.status")
    assert site.store.current() is None
    assert site.job().update().result == "applied"
    assert site.served() == measure(place).sha256
    assert ranges(server)[-1] == "bytes=100000-"


@pytest.mark.parametrize("spoiled", [b"x" * 100_000, b"x" * 400_000, b""])
def test_a_part_that_is_not_what_was_fetched_is_thrown_away(
    spoiled: bytes, site: Any, server: ModelServer
) -> None:
    """After a power failure, a file may hold anything."""
    place = interrupted(site, server)
    part_of(site, place).write_bytes(spoiled)
    before = len(ranges(server))
    assert site.job().update().result == "applied"
    assert site.served() == measure(place).sha256
    expected = ["bytes=100000-", None] if len(spoiled) == 100_000 else [None]
    assert ranges(server)[before:] == expected


def test_a_whole_part_is_only_hashed(site: Any, server: ModelServer) -> None:
    place = interrupted(site, server)
    part_of(site, place).write_bytes((place / MODEL).read_bytes())
    before = len(ranges(server))
    assert site.job().update().result == "applied"
    assert ranges(server)[before:] == []


def test_parts_of_another_model_are_removed(site: Any, server: ModelServer) -> None:
    interrupted(site, server)
    offered(site, server, 2)
    assert site.job().fetch().result == "fetched"
    assert list((site.store.root / "staging").iterdir()) == []


def test_the_same_content_is_fetched_once(site: Any, server: ModelServer) -> None:
    place = offered(site, server, copy_dot_bin2=b"same" * 99, sub__copy=b"same" * 99)
    assert site.job().update().result == "applied"
    assert sum("copy" in path for path in server.paths()) == 1
    before = len(server.asked)
    offered(site, server, 2, copy_dot_bin2=b"same" * 99)
    assert site.job().update().result == "applied"
    fetched = {path.rpartition("/")[2] for path in server.paths()[before:]}
    assert "copy.bin2" not in fetched
    assert measure(place).sha256 != site.served()


def test_a_copy_that_was_altered_here_is_fetched(site: Any, server: ModelServer) -> None:
    offered(site, server, 1, more=b"1" * 50)
    version = site.job().update().version
    (site.store.directory(version) / "more").write_bytes(b"2" * 50)
    place = offered(site, server, 2, more=b"1" * 50)
    assert site.job().update().result == "applied"
    assert site.served() == measure(place).sha256


@pytest.mark.parametrize("rate", [1000, 100_000_000])
def test_the_rate_is_held(rate: int) -> None:
    now, slept = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    pace = Pace(rate, lambda: now, sleep)
    assert pace.portion <= max(1024, rate // 10)
    began, count = now, 0
    for _ in range(50):
        pace.took(pace.portion)
        count += pace.portion
    assert now - began == pytest.approx(count / rate)
    now += 3600  # nothing came for an hour; that is no credit
    began = now
    pace.took(rate)
    assert now - began == pytest.approx(1)


def test_a_rate_is_asked_for(site: Any, server: ModelServer) -> None:
    place = offered(site, server)
    site.configure(rate_bytes=1 << 20)
    assert site.job().update().result == "applied"
    size = sum(
        path.stat().st_size for path in place.rglob("*") if path.is_file() and path.name != "model.sig"
    )
    assert max(site.pauses) == pytest.approx(size / (1 << 20)), "the clock stands still here: all of it"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_ended_is_resumed(number: signal.Signals, site: Any, server: ModelServer) -> None:
    """The real command, in the middle of a file."""
    place = offered(site, server)
    config = site.home / "rlu.toml"
    lines = [
        f'state_dir = "{site.home}"',
        "[model]",
        f'path = "{site.settings.model.path}"',
        'name = "m"',
        f"signers = {json.dumps([str(path) for path in site.settings.model.signers])}",
        "[update]",
        f'source = "{site.settings.update.source}"',
        "reserve_bytes = 0",
    ]
    config.write_text("\n".join(lines) + "\nrate_bytes = 2000\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
    command = [sys.executable, "-m", "rlu_attestation.cli", "update", "run", "--now", "--config", str(config)]
    ended = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    )
    try:
        digest = hashlib.sha256((place / MODEL).read_bytes()).hexdigest()

        def some() -> bool:
            parts = (site.store.root / "staging").glob(f"*/parts/{digest}")
            return any(part.stat().st_size > 2048 for part in parts)

        wait_until(some)
        ended.send_signal(number)
        assert ended.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    finally:
        ended.kill()
        ended.wait(60)
    had = part_of(site, place).stat().st_size
    assert 0 < had < (place / MODEL).stat().st_size
    assert site.store.current() is None
    before = len(ranges(server))
    noted = journal(site)
    if number == signal.SIGTERM:
        assert noted[-1]["result"] == "SystemExit"
        assert noted[-1]["received"] >= had, "what was read, written or not"
    config.write_text("\n".join(lines) + "\n")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stderr
    assert site.served() == measure(place).sha256
    assert ranges(server)[before:] == [f"bytes={had}-"]
    assert {one["destination"] for one in journal(site)} == {server.host}
    assert [one["result"] for one in journal(site)].count("begun") == 2, "killed, it left a trace too"


def journal(site: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (site.home / "egress.jsonl").read_text().splitlines()]


def test_a_source_that_stumbles_is_asked_again(site: Any, server: ModelServer) -> None:
    place = offered(site, server)
    stumbled: set[tuple[str, str]] = set()

    def stumble(path: str) -> None:
        first = (server.asked[-1].method, path) not in stumbled
        stumbled.add((server.asked[-1].method, path))
        server.behaviour.status = 503 if first else None

    server.on_answer = stumble
    assert site.job().update().result == "applied"
    assert site.served() == measure(place).sha256
    assert set(site.pauses) == {FIRST_PAUSE_S}


def test_refused_after_a_part_was_resumed_and_fetched_anew(site: Any, server: ModelServer) -> None:
    place = interrupted(site, server)
    data = bytearray((place / MODEL).read_bytes())
    data[-1] ^= 1
    (place / MODEL).write_bytes(data)
    assert code(site.job().update, UpdateRefused) == "update.tampered"
    assert ranges(server)[-2:] == ["bytes=100000-", None]
    assert site.store.current() is None
