"""What a job sends to a vendor: one POST to the one address that the settings name, noted in the journal of what left.

The journal, `egress.jsonl` below the state directory, has a line for each attempt: when, which job, where to, how many bytes of content
went and came, the SHA-256 of what went, and what became of it. It holds nothing of the content itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from rlu_attestation.errors import RluError
from rlu_server.outreach.http import Unreachable, request, target, trust

MAX_ANSWER = 64 * 1024
JOURNAL = "egress.jsonl"
BEGUN = "begun"
"""What became of a contact that has just begun, noted by jobs that run for long; its attempts follow in lines of their own."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """One attempt to send something out. `sent` is what was handed over; of an attempt that failed, less may have left."""

    time: int
    job: str
    destination: str
    proxy: str
    sent: int
    received: int
    sha256: str
    result: str
    """`sent`, `status.<number>` of a service that refused, or the code of what went wrong."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Where one job sends to.

    Attributes:
        journal: the file of crossings; None: standard error only.
    """

    job: str
    url: str
    proxy: str
    ca_file: Path | None
    journal: Path | None

    def post(self, content: bytes, media_type: str, now: int) -> bytes:
        """Send, and give what was answered.

        Raises:
            Unreachable: `relay.…`, `relay.status`.
            BadAddress: `relay.url`, `relay.proxy`; nothing was sent.
            OSError: the CAs cannot be read, or the journal cannot be written; nothing was sent.
        """
        return self.ask(content, media_type, now, refusals=())[1]

    def ask(self, content: bytes, media_type: str, now: int, refusals: Collection[int]) -> tuple[int, bytes]:
        """As `post`, for a service whose refusals say why: status and content.

        Args:
            refusals: statuses beyond those of success whose content is given too; noted as `status.<number>`.
        """
        parts = target(self.url)
        context = trust(self.ca_file)
        given = {"Content-Type": media_type}
        answer, result = b"", "sent"
        with noting(self.journal) as note:
            try:
                status, _, answer = request(
                    "POST", self.url, context, MAX_ANSWER, content, given, proxy=self.proxy
                )
                if status in refusals:
                    result = f"status.{status}"
                elif status not in (200, 201, 202, 204):
                    raise Unreachable("relay.status", f"{parts.hostname} answered with status {status}")
            except RluError as error:
                result = error.code
                raise
            finally:
                note(
                    Crossing(
                        time=now,
                        job=self.job,
                        destination=f"{parts.hostname}:{parts.port or 443}",
                        proxy=self.proxy,
                        sent=len(content),
                        received=len(answer),
                        sha256=hashlib.sha256(content).hexdigest(),
                        result=result,
                    )
                )
        return status, answer


@contextlib.contextmanager
def noting(path: Path | None) -> Iterator[Callable[[Crossing], None]]:
    """The journal, open before anything is sent: nothing leaves that cannot be noted. None: standard error only."""
    with contextlib.ExitStack() as stack:
        journal: TextIO | None = None
        if path is not None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            journal = stack.enter_context(os.fdopen(descriptor, "w", encoding="ascii"))
            stack.callback(os.fsync, journal.fileno())

        def note(crossing: Crossing) -> None:
            for stream in (sys.stderr, journal):
                if stream is not None:
                    print(json.dumps(asdict(crossing)), file=stream, flush=True)

        yield note
