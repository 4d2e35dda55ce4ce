"""Servers in processes of their own, that say on standard error where they listen."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


@contextlib.contextmanager
def listening(
    command: Sequence[str | Path], says: str, environment: Mapping[str, str]
) -> Iterator[re.Match[str]]:
    """Until left. Gives what the first line that has `says` in it says; the rest is read and dropped."""
    process = subprocess.Popen(
        list(command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(environment)
    )
    assert process.stderr is not None
    lines: list[str] = []
    try:
        found = None
        for line in process.stderr:
            lines.append(line)
            found = re.search(says, line)
            if found:
                break
        assert found, lines
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        try:
            yield found
        finally:
            process.kill()
            drain.join(60)
    finally:
        process.kill()
        process.wait(60)
        process.stderr.close()
