"""Leaks on purpose: a marked blob at every place, in every form. What is not found of it would not be found of a prompt either."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from rlu_server.selftest import forms
from rlu_server.selftest.forms import Needle, Tokenizer
from rlu_server.selftest.markers import marker
from rlu_server.selftest.scan import Scanner
from rlu_server.selftest.unpack import KINDS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SCENARIO = "plant:"
"""Begins the scenario of every plant; the name of its place follows."""


class Plants:
    """One marker for each place.

    Attributes:
        needles: what the search is to be made with.
    """

    def __init__(self, secret: bytes, places: Sequence[str], tokenizers: Sequence[Tokenizer] = ()) -> None:
        self.needles: list[Needle] = []
        self._blobs: dict[str, bytes] = {}
        self._expected: dict[str, frozenset[tuple[str, str]]] = {}
        self._files: list[Path] = []
        for place in places:
            # Beyond ASCII, where escapes differ from the text.
            text = marker(secret, SCENARIO + place, 0, "unicode").text
            needles = [
                *forms.of_text(text, SCENARIO + place, tokenizers),
                *forms.of_digests(text.encode(), SCENARIO + place),
            ]
            self.needles += needles
            self._blobs[place] = blob(text, needles)
            self._expected[place] = frozenset(
                {(needle.form, "") for needle in needles} | {("text", kind) for kind in KINDS}
            )
        self._planted: set[str] = set()

    def content(self, place: str) -> bytes:
        """The blob of a place that is searched in memory; counts as planted."""
        self._planted.add(place)
        return self._blobs[place]

    def file(self, place: str, path: Path) -> bool:
        """Plant a file; whether that was possible. `clear` takes it away again."""
        try:
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError:
            return False
        self._files.append(path)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(self._blobs[place])
                out.flush()
                os.fsync(out.fileno())
        except OSError:
            return False
        self._planted.add(place)
        return True

    def append(self, place: str, path: Path) -> None:
        """Plant at the end of a file that is thrown away afterwards."""
        with path.open("ab") as out:
            out.write(b"\n" + self._blobs[place] + b"\n")
        self._planted.add(place)

    def clear(self) -> None:
        """Take the files away."""
        for path in self._files:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._files.clear()

    def planted(self, place: str) -> int:
        """How many forms of it were planted there."""
        return len(self._expected[place]) if place in self._planted else 0

    def found(self, place: str, scanner: Scanner) -> int:
        """How many of them were found there."""
        if place not in self._planted:
            return 0
        found = {
            (hit.form, hit.packing)
            for hit in scanner.hits
            if hit.place == place and hit.scenario == SCENARIO + place
        }
        return len(found & self._expected[place])

    def missed(self, place: str, scanner: Scanner) -> list[str]:
        """Forms that were planted and not found."""
        found = {
            (hit.form, hit.packing)
            for hit in scanner.hits
            if hit.place == place and hit.scenario == SCENARIO + place
        }
        return (
            sorted("/".join(filter(None, one)) for one in self._expected[place] - found)
            if self.planted(place)
            else []
        )


def blob(text: str, needles: Sequence[Needle]) -> bytes:
    """Every needle, apart from one another, and the text in every kind of compressed stream."""
    raw = b"before " + text.encode() + b" after"
    with io.BytesIO() as archive:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("member", raw)
        packed = [
            gzip.compress(raw),
            zlib.compress(raw),
            zstd.compress(raw),
            lzma.compress(raw),
            bz2.compress(raw),
        ]
        packed.append(archive.getvalue())
    # What is in between keeps one from being a part of its neighbour.
    return b"\n".join([*(needle.data for needle in needles), *(data + bytes(16) for data in packed)])
