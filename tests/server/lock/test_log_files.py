"""What the attestor does with its log's files when a segment is finished, it may do under its lock."""

from __future__ import annotations

from collections.abc import Callable

from locked import Room


def test_a_segment_is_finished_under_the_lock(rooms: Callable[..., Room]) -> None:
    room = rooms("attestor")
    steps = f"""os.chdir({str(room.scratch)!r})
os.mkdir('tiles')
for name in ('log.jsonl', '.log.jsonl.new', 'tiles/leaves.bin'):
    f = os.open(name, os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(f, b'x')
    os.ftruncate(f, 0)
    os.fsync(f)
    os.close(f)
os.link('log.jsonl', 'log.000001.jsonl')
os.replace('.log.jsonl.new', 'log.jsonl')
os.fsync(os.open('.', os.O_RDONLY | os.O_DIRECTORY))"""
    assert room.tries(steps) == "ok"
