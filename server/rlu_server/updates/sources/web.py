"""Files on web servers: plain ones, hubs' mirrors, S3 services. One request a file, which can begin anywhere in it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rlu_server.outreach.download import Answer, Reach
from rlu_server.outreach.http import Unreachable
from rlu_server.updates.errors import NotPossible
from rlu_server.updates.sources.source import Absent

Signing = Callable[[str, str], Mapping[str, str]]
"""Method and address to headers."""
_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)")
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class WebStream:
    answer: Answer
    start: int

    def read(self, most: int) -> bytes:
        return self.answer.read(most)


@dataclass(frozen=True, slots=True)
class WebSource:
    """Args:
    url: of a path.
    signing: headers that every request to the source itself gets.
    follow: whether it may send us to another allowed host.
    """

    reach: Reach
    url: Callable[[str], str]
    signing: Signing
    follow: bool = True

    def size(self, path: str) -> int:
        with self._ask("HEAD", path, {}) as answer:
            check(answer, path)
            length = answer.length
        if length is None:
            raise NotPossible("update.size", f"{answer.host} does not say how large {path} is")
        return length

    @contextlib.contextmanager
    def open(self, path: str, start: int = 0) -> Iterator[WebStream]:
        with self._ask("GET", path, {"Range": f"bytes={start}-"} if start else {}) as answer:
            yield stream(answer, path, start)

    def _ask(
        self, method: str, path: str, more: Mapping[str, str]
    ) -> contextlib.AbstractContextManager[Answer]:
        url = self.url(path)
        return self.reach.ask(method, url, {**self.signing(method, url), **more}, follow=self.follow)


def stream(answer: Answer, path: str, start: int) -> WebStream:
    """The content of an answer to a request that asked to begin at `start`."""
    check(answer, path)
    if answer.status != 206:
        return WebStream(answer, 0)
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start:
        raise NotPossible("update.range", f"{answer.host} gives another part of {path} than was asked for")
    return WebStream(answer, start)


def check(answer: Answer, path: str) -> None:
    """Raises Absent, NotPossible (`update.forbidden`, `update.status`), Unreachable (`relay.status`) where another try may help."""
    status = answer.status
    if status in (200, 206):
        return
    if status in (404, 410):
        raise Absent("update.absent", f"{answer.host} has no {path}")
    if status in (401, 403):
        raise NotPossible(
            "update.forbidden",
            f"{answer.host} refuses {path} with status {status}; look at the credentials ([update] credentials)",
        )
    if status in _LATER:
        raise Unreachable("relay.status", f"{answer.host} answered with status {status}")
    raise NotPossible("update.status", f"{answer.host} answered with status {status} to {path}")
