"""What a conversation with the server is made of: the core yields these, and a shell does them.

`Talk[T]` is a generator that yields commands, is sent their results, and returns a `T`. It does no I/O, knows no time and no randomness;
an I/O error is thrown into it as an `RluError`. A shell is a loop over it (`link`), once for threads and once for asyncio.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rlu_attestation.connect.status import Status

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Moment:
    """Result of `Look`: the time in seconds since the epoch, a clock that only rises, and 32 fresh random bytes."""

    at: int
    monotonic: float
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """Result of `Meet` and `Ask`: an answer as a whole; `content` is as sent, after transfer coding."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes
    spki_sha256: bytes | None
    """Digest of the SubjectPublicKeyInfo of the TLS key; `None` without TLS."""


@dataclass(frozen=True, slots=True)
class Head:
    """Result of `Send`: the head of an answer whose content `Read` gives."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """What time is it?"""


@dataclass(frozen=True, slots=True)
class Meet:
    """A GET on a connection of its own, whose TLS key is not known yet; it carries nothing secret. Result: `Told`."""

    path: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A small request for ourselves, with the API key, over a connection that shows the adopted key. Result: `Told`."""

    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """A request of the client's, with the API key, over a connection that shows the adopted key. Result: `Head`."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """The next piece of content; empty at its end. The answer is over then, or when another `Send` follows."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Lock:
    """Be the only one who opens a session, until `Unlock`."""


@dataclass(frozen=True, slots=True)
class Unlock:
    """The end of `Lock`."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """The key that every further connection must show; `None` when there is no TLS."""

    spki_sha256: bytes | None


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the user."""

    status: Status


@dataclass(frozen=True, slots=True)
class Begin:
    """The head of the answer to the client."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Emit:
    """Content for the client."""

    content: bytes


Command = Look | Meet | Adopt | Ask | Send | Read | Pause | Lock | Unlock | Report | Begin | Emit
Talk = Generator[Command, Any, T]
