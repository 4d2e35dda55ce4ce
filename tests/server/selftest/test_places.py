"""The test tests itself: a leak of every form, at every place, is found there; and one that is not found is told."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rlu_attestation.canary import PLACES, UNPLANTED
from rlu_server.selftest import forms, places
from rlu_server.selftest.image import MIB, Image, ImageError
from rlu_server.selftest.index import Index
from rlu_server.selftest.places import Search, Where
from rlu_server.selftest.plants import SCENARIO, Plants
from rlu_server.selftest.scan import Scanner
from rlu_server.selftest.unpack import KINDS

IN_MEMORY = ("log_export", "otlp_export", "metrics", "traces")


def where(base: Path) -> Where:
    place = base / "disk"
    for name in ("state", "cwd", "runtime", "home"):
        (place / name).mkdir(parents=True)
    (place / "server.log").write_text("an event\n")
    return Where(
        since=time.time() - 1, base=base, place=place, skip=(), home=place / "home", file_systems=False
    )


def test_every_form_at_every_place(short_directory: Path, secret: bytes) -> None:
    planted = Plants(secret, PLACES, [lambda text: [1000 + ord(c) for c in text]])
    scanner = Scanner(Index(planted.needles))
    image = Image(short_directory / "disk.img", short_directory / "disk", 32 * MIB)
    mounted = True
    try:
        image.make()
    except ImageError:
        mounted = False
        image.mount.mkdir(exist_ok=True)
    try:
        spot = where(short_directory)
        search = Search(scanner, planted, spot)
        for place in IN_MEMORY:
            search.answer(place, b"what the server says")
        search.live(spot.place / "runtime", [])
        search.plant()
        if mounted:
            search.plant_on_disk()
        search.files()
        search.clear()
        if mounted:
            image.unmount()
            search.disk(image.file)
    finally:
        image.abandon()
        planted.clear()
    expected = set(PLACES) - UNPLANTED - {"file_systems"} - (set() if mounted else {"disk"})
    missing = {place: planted.missed(place, scanner) for place in expected}
    assert missing == {place: [] for place in expected}
    assert {place: planted.found(place, scanner) for place in expected} == {
        place: planted.planted(place) for place in expected
    }
    # Every form and every kind of compression, the digests too.
    assert all(planted.planted(place) >= len(forms.FORMS) - 1 + len(KINDS) for place in expected)
    # The plants of other places are seen where they lie, and none of them is a leak.
    assert places.leaks(scanner) == []
    assert not [
        path
        for path in Path("/dev/shm").iterdir()
        if places.PLANT in path.name and str(os.getpid()) in path.name
    ]
    # Mounting needs root. Whoever is not gets told, and no less is required of root.
    assert mounted or os.geteuid() != 0


def test_a_search_that_finds_nothing_is_told(short_directory: Path, secret: bytes) -> None:
    planted = Plants(secret, ["temporary"])
    blind = Scanner(Index([needle for needle in planted.needles if needle.form != "sha256"]))
    spot = where(short_directory)
    assert planted.file("temporary", spot.place / "state" / "planted")
    Search(blind, planted, spot)._tree("temporary", spot.place / "state", 0)
    assert planted.missed("temporary", blind) == ["sha256"]
    places.accounts(blind, spot, planted)
    assert spot.unsearched["temporary"] == ["planted and not found: sha256"]
    assert planted.found("temporary", blind) == planted.planted("temporary") - 1


def test_a_place_that_takes_no_plant_is_not_searched(short_directory: Path, secret: bytes) -> None:
    """A read-only or full place: a search that was given nothing to find shows nothing."""
    planted = Plants(secret, PLACES)
    spot = where(short_directory)
    scanner = Scanner(Index(planted.needles))
    search = Search(scanner, planted, spot)
    (spot.place / "state" / places.PLANT).mkdir()
    assert not planted.file("state", spot.place / "state" / places.PLANT)
    assert planted.file("home", spot.home / "planted")
    for place in ("state", "home"):
        search._tree(place, spot.place / place, 0)
    for place in UNPLANTED:
        scanner.at(place)
    places.accounts(scanner, spot, planted)
    assert list(spot.unsearched) == ["state"]
    assert "nothing could be planted" in spot.unsearched["state"][0]
    planted.clear()


def test_a_leak_is_no_plant(short_directory: Path, secret: bytes) -> None:
    planted = Plants(secret, PLACES)
    needles = list(forms.of_text("a prompt that nobody may keep, 4711", "chat"))
    scanner = Scanner(Index([*planted.needles, *needles]))
    spot = where(short_directory)
    (spot.place / "state" / "log").write_text("debug: A PROMPT? a prompt that nobody may keep, 4711\n")
    Search(scanner, planted, spot)._tree("state", spot.place / "state", 0)
    (leak, *_) = places.leaks(scanner)
    assert leak.startswith(f"state: chat as text: {spot.place / 'state' / 'log'} at ")
    assert "4711" not in leak
    assert not any(hit.scenario.startswith(SCENARIO) for hit in scanner.hits)


def test_deleted_files_that_are_open(short_directory: Path, secret: bytes) -> None:
    planted = Plants(secret, PLACES)
    text = "a prompt in a file that is gone, 4712"
    scanner = Scanner(Index([*planted.needles, *forms.of_text(text, "chat")]))
    spot = where(short_directory)
    with (spot.place / "cwd" / "gone").open("w+") as file:
        file.write(text)
        file.flush()
        (spot.place / "cwd" / "gone").unlink()
        Search(scanner, planted, spot).live(spot.place / "runtime", [])
    assert any(leak.startswith("deleted_files: chat as text") for leak in places.leaks(scanner)), (
        places.mounts()
    )
    assert planted.missed("deleted_files", scanner) == []


def test_a_runtime_directory_that_stayed(short_directory: Path, secret: bytes) -> None:
    planted = Plants(secret, PLACES)
    spot = where(short_directory)
    search = Search(Scanner(Index(planted.needles)), planted, spot)
    assert search.runtime_gone([spot.place / "never was"])
    assert not search.runtime_gone([spot.place / "runtime"])


def test_the_kernel_log_is_read(short_directory: Path, secret: bytes) -> None:
    planted = Plants(secret, PLACES)
    scanner = Scanner(Index(planted.needles))
    spot = where(short_directory)
    Search(scanner, planted, spot)._kernel_log()
    assert scanner.places["kernel_log"].size > 0 or "kernel_log" in spot.unsearched


def test_scratch_is_memory_while_the_engine_runs_and_a_leak_afterwards(
    short_directory: Path, secret: bytes
) -> None:
    planted = Plants(secret, PLACES)
    scanner = Scanner(Index([*planted.needles, *forms.of_text("a prompt in scratch, number 4713", "chat")]))
    spot = where(short_directory)
    runtime = spot.place / "runtime"
    (runtime / "engine").mkdir()
    (runtime / "engine" / "t").write_text("a prompt in scratch, number 4713")
    search = Search(scanner, planted, spot)
    search.live(runtime, [])
    assert places.leaks(scanner) == []
    assert not search.runtime_gone([runtime])
    assert {leak.split(" as ")[0] for leak in places.leaks(scanner)} == {"runtime: chat"}
