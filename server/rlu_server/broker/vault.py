"""The vendor's directory of model keys, which the broker reads anew for each request, so that what is put there counts at once.

    <kid>.json      a model key, mode 0600: {"key","kid","manifest_sha256","name","rlu_weights_key":"1"}, canonical JSON
    <kid>.toml      the policy for this key, if it has one of its own
    policy.toml     the policy for all others
    revoked.jsonl   keys that are not released any more: {"kid","reason","time"}, a line each

Whoever can read it has the models, and who can write it decides who gets them: keep it where nobody else can do either.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation import canonical
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_attestation.files import load_policy, write_new
from rlu_attestation.policy import Policy
from rlu_server.broker.errors import BrokerUnready, Misused, NoSuchKey, NotReleased
from rlu_server.broker.sealing import KEY_SIZE, key_id

POLICY = "policy.toml"
REVOKED = "revoked.jsonl"
JOURNAL = "journal.jsonl"
MAX_KEY_FILE = 4096
MAX_REASON = 256


@dataclass(frozen=True, slots=True)
class ModelKey:
    """The key of one model's weights; `name` is for people."""

    key: bytes
    manifest: bytes
    name: str

    @property
    def kid(self) -> bytes:
        return key_id(self.key)

    def encode(self) -> bytes:
        return canonical.encode(
            {
                "key": b64u(self.key),
                "kid": b64u(self.kid),
                "manifest_sha256": b64u(self.manifest),
                "name": self.name,
                "rlu_weights_key": "1",
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> ModelKey:
        """Raises Misused (`broker.vault.key`)."""
        try:
            with Members(canonical.decode(data.rstrip(b"\n"), MAX_KEY_FILE), "key file") as members:
                members.exactly("rlu_weights_key", "1")
                found = cls(
                    members.binary("key", KEY_SIZE),
                    members.binary("manifest_sha256", 32),
                    members.text("name"),
                )
                members.exactly("kid", b64u(found.kid))
        except RluError as error:
            # The message names members, never their values.
            raise Misused("broker.vault.key", f"a key file is damaged: {error.message}") from error
        return found


class Vault:
    """One directory of keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.journal = directory / JOURNAL

    def check(self) -> None:
        """Whether it can serve.

        Raises:
            Misused: `broker.vault`: it is no directory, or others can read or write it.
        """
        try:
            mode = self.directory.stat().st_mode
        except OSError as error:
            raise Misused("broker.vault", f"{self.directory}: {error.strerror}") from error
        if not stat.S_ISDIR(mode) or mode & 0o077:
            raise Misused("broker.vault", f"{self.directory} must be a directory of mode 0700")

    def add(self, key: ModelKey) -> Path:
        """Keep a new key; makes the directory if it is not there. Raises Misused, Unreadable."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Misused("broker.vault", f"{self.directory}: {error.strerror}") from error
        self.check()
        path = self.directory / f"{b64u(key.kid)}.json"
        write_new(path, key.encode() + b"\n", private=True)
        return path

    def key(self, kid: bytes) -> ModelKey:
        """A key that is here, revoked or not.

        Raises:
            NoSuchKey: `broker.key.unknown`.
            Misused: `broker.vault.key`.
            OSError: it cannot be read.
        """
        try:
            with (self.directory / f"{b64u(kid)}.json").open("rb") as file:
                found = ModelKey.parse(file.read(MAX_KEY_FILE + 1))
        except FileNotFoundError:
            raise NoSuchKey("broker.key.unknown", f"there is no key {b64u(kid)} here") from None
        if found.kid != kid:
            raise Misused("broker.vault.key", f"{b64u(kid)}.json holds another key")
        return found

    def listing(self) -> list[ModelKey]:
        """All keys. Raises Misused (`broker.vault.key`), OSError."""
        return [
            ModelKey.parse(path.read_bytes()[: MAX_KEY_FILE + 1])
            for path in sorted(self.directory.glob("*.json"))
        ]

    def releasable(self, kid: bytes) -> tuple[ModelKey, Policy]:
        """A key that is not revoked, and the policy that decides who may have it.

        Raises:
            NoSuchKey: `broker.key.unknown`.
            NotReleased: `broker.key.revoked`, with the reason.
            BrokerUnready: `broker.vault`: a file is damaged or cannot be read; nothing is released.
        """
        try:
            found = self.key(kid)
            reason = self.revoked().get(b64u(kid))
            own = self.directory / f"{b64u(kid)}.toml"
            policy = load_policy(own if own.exists() else self.directory / POLICY)
        except NotReleased:
            raise
        except (RluError, OSError) as error:
            why = f"{error.message} [{error.code}]" if isinstance(error, RluError) else str(error.strerror)
            raise BrokerUnready("broker.vault", f"the vault cannot be used: {why}") from error
        if reason is not None:
            raise NotReleased("broker.key.revoked", f"this key is revoked: {reason}")
        return found, policy

    def revoked(self) -> dict[str, str]:
        """Key id to reason. A line that is damaged refuses: it may have been a revocation.

        Raises:
            Misused: `broker.vault.revoked`.
            OSError: it cannot be read.
        """
        try:
            text = (self.directory / REVOKED).read_text("utf-8")
            lines = [json.loads(line) for line in text.splitlines()]
            return {str(line["kid"]): str(line["reason"]) for line in lines}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise Misused("broker.vault.revoked", f"{REVOKED} is damaged: repair its lines") from error

    def revoke(self, kid: bytes, reason: str, now: int) -> None:
        """Release a key no more; whoever has it, has it.

        Raises:
            NoSuchKey: `broker.key.unknown`.
            Misused: `broker.vault.reason`, `broker.vault.revoked`.
            OSError: it cannot be written.
        """
        if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
            raise Misused("broker.vault.reason", f"say why, in 1 to {MAX_REASON} characters on one line")
        self.key(kid)
        self.revoked()
        line = json.dumps({"kid": b64u(kid), "reason": reason, "time": now}) + "\n"
        descriptor = os.open(
            self.directory / REVOKED, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(line.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
