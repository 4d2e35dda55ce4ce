"""Where the licence, the vendor's keys and the vendor's last answer are, and what is found there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.policy_signature import MAX_KEY, PublicKey, load_public_key
from rlu_attestation.signed_json import MAX_TEXT
from rlu_server.licence.document import Answer, Licence, digest
from rlu_server.settings import Settings


class Unusable(RluError):
    """A file that is missing or cannot be read."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Found:
    """A licence that was verified, and what the vendor last said of it."""

    licence: Licence
    digest: bytes
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Place:
    """The files that the settings name."""

    file: Path
    vendor_keys: Sequence[Path]
    answer: Path

    def keys(self) -> list[PublicKey]:
        """The vendor's keys, as the operator pinned them.

        Raises:
            Unusable: `licence.file`, `licence.vendor_keys`.
            PolicyError: `policy.key`.
        """
        if not self.vendor_keys:
            raise Unusable(
                "licence.vendor_keys", "no key of a vendor is known: set [licence] vendor_keys to PEM files"
            )
        return [load_public_key(_read(path, MAX_KEY)) for path in self.vendor_keys]

    def find(self) -> Found:
        """Read and verify everything.

        Raises:
            RluError: as `keys` and `Licence.verify`. An answer that does not verify is none.
        """
        keys = self.keys()
        text = read_text(self.file)
        licence = Licence.verify(text, keys)
        return Found(licence, digest(text), self.last_answer(keys))

    def last_answer(self, keys: Sequence[PublicKey]) -> Answer | None:
        """What the vendor said last, if anything that verifies is there."""
        try:
            return Answer.verify(read_text(self.answer), keys)
        except RluError:
            return None


def place_of(settings: Settings) -> Place | None:
    """Where the settings say the licence is; None: there is none."""
    licence = settings.licence
    if licence.file is None:
        return None
    answer = licence.answer_file or settings.state_dir / "licence-answer.jws"
    return Place(licence.file, licence.vendor_keys, answer)


def read_text(path: Path) -> str:
    """A document's text, without its line's end.

    Raises:
        Unusable: `licence.file`.
        Malformed: `licence.encoding`.
    """
    try:
        return _read(path, MAX_TEXT).decode("ascii").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Malformed("licence.encoding", f"{path} is not a compact JWS") from error


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise Unusable("licence.file", f"cannot read {path}: {error.strerror}") from error
    if len(data) > most:
        raise Unusable("licence.file", f"{path} is longer than {most} bytes")
    return data
