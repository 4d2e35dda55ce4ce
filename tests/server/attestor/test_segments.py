"""The end of a segment: whatever fails there, the log is one whole log, on the disk too."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fakes.attestor_room import Room, running_room
from rlu_attestation import jose
from rlu_attestation.cli.log_directory import audit
from rlu_server.attestor import instances, journal, messages, tiles
from rlu_server.attestor.journal import Journal
from waiting import until


def whole(room: Room) -> int:
    """How many leaves a start finds in a copy of the log, as a crash at this moment leaves it; an auditor finds nothing wrong with it."""
    log = room.deployment.state / "log"
    copy = log.with_name("copy")
    shutil.copytree(log, copy)
    # A copy has no files with two names.
    for one, other in itertools.combinations(sorted(log.iterdir()), 2):
        if one.samefile(other):
            (copy / one.name).unlink()
            os.link(copy / other.name, copy / one.name)
    opened = Journal(copy, room.issuer, jose.public_jwk(room.platform.public_key))
    ledger = instances.open_ledger(room.issuer, opened, b"b" * 32)
    instances.rebuild(ledger, opened, room.platform.public_key)
    opened.close()
    assert audit(copy, None)[0] == []
    shutil.rmtree(copy)
    return ledger.tree.size


@pytest.mark.parametrize(
    ("module", "name"),
    [(tiles, "sync_directory"), (journal, "sync_directory"), (os, "link"), (os, "replace")],
    ids=["sealed leaves", "new segment", "old name", "new name"],
)
async def test_a_cut_that_fails_at_any_step_leaves_one_whole_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    async with running_room(tmp_path, segment_leaves=4) as room:
        log = room.deployment.state / "log"
        gateway = await room.greeted()
        for _ in range(3):
            await gateway.open()
        failed, real = [], getattr(module, name)

        def broken(*arguments: Any) -> Any:
            if not failed:
                failed.append(name)
                raise OSError(errno.ENOSPC, "scripted")
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, broken)
            await gateway.open()
            await until(lambda: "log.write_failed" in room.event_names(), room.stream.getvalue)
        assert audit(log, None)[0] == []
        assert (room.journal.sealed, whole(room)) == (0, 4)
        # The segment goes on, twice as long.
        for _ in range(4):
            await gateway.open()
        await until(lambda: room.journal.sealed == 8, room.stream.getvalue)
        assert whole(room) == 8
        await gateway.open()
        assert room.event_names().count("log.write_failed") == 1
        assert whole(room) == 9
        assert audit(log, None)[0] == []


async def test_a_crash_between_the_names_of_a_cut_is_put_right(tmp_path: Path) -> None:
    """The segment in use has the name of a finished one too: to an auditor that is a log with the same segment twice."""
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        await gateway.open()
        log = room.deployment.state / "log"
        os.link(log / "log.jsonl", room.journal._finished(1))
        assert [finding.code for finding in audit(log, None)[0]] == ["log.gap"]
        assert whole(room) == 1


async def test_a_new_segment_takes_no_batch_before_its_name_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut could take it away again, with all that was released from it."""
    async with running_room(tmp_path, segment_leaves=4) as room:
        gateway = await room.greeted()
        for _ in range(3):
            await gateway.open()
        replaced, replace, sync = [], os.replace, journal.sync_directory

        def renamed(source: Path, target: Path) -> None:
            replace(source, target)
            replaced.append(target)

        def broken(path: Path) -> None:
            if replaced:
                raise OSError(errno.EIO, "scripted")
            sync(path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", renamed)
            patch.setattr(journal, "sync_directory", broken)
            await gateway.open()
            await until(lambda: room.journal.sealed == 4, room.stream.getvalue)
            failure = await gateway.ask(gateway.opening(), messages.Failure)
            assert failure.code == "signer_unavailable"
        await gateway.open()
        assert room.ledger.tree.size == 5
        assert whole(room) == 5
