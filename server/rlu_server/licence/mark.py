"""The latest time ever seen, kept where a clock that is set back does not reach it.

A few bytes in the attestor's directory, sealed with a key derived from its secret. Together with the times of the log's signed heads it is
a lower bound of the time: a licence is judged by the latest of clock, heads and mark. What it cannot do: whoever takes the state directory
away, or brings back a copy of the whole machine, brings an earlier time back too. And a clock that was once far ahead stays in it, until
the file is removed.
"""

from __future__ import annotations

import hmac
from pathlib import Path

from rlu_attestation import canonical
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_server.attestor.secret import write_private

FILE = "licence-time"
STEP_S = 300
"""It is written at most so often; so much of the past a clock can win by being set back."""


class Mark:
    """The mark of one attestor.

    Attributes:
        at: the latest time seen; 0: none.
        broken: a file was there, and was not one of ours.
    """

    def __init__(self, path: Path, secret: bytes) -> None:
        self._path = path
        self._key = hmac.digest(secret, b"rlu/licence-time/v1\0", "sha256")
        self._written = 0
        self.at = 0
        self.broken = False
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError:
            self.broken = True
            return
        try:
            with Members(canonical.decode(data), "mark") as members:
                at, seal = members.count("at"), members.binary("seal", 32)
        except RluError:
            self.broken = True
            return
        if hmac.compare_digest(seal, self._seal(at)):
            self.at = self._written = at
        else:
            self.broken = True

    def advance(self, at: int) -> int:
        """The latest of this time and all before; kept on the disk when it is time to.

        Raises:
            OSError: it cannot be kept.
        """
        self.at = max(self.at, at)
        if self.at >= self._written + STEP_S:
            write_private(self._path, canonical.encode({"at": self.at, "seal": b64u(self._seal(self.at))}))
            self._written = self.at
        return self.at

    def _seal(self, at: int) -> bytes:
        return hmac.digest(self._key, str(at).encode("ascii"), "sha256")
