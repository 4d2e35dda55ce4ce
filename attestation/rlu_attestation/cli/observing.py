"""What auditors and witnesses share: one look at a server's log, and a state file that is replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation.bundle import Logged
from rlu_attestation.errors import RluError, Untrusted
from rlu_attestation.files import Unreadable, load_bundle, read
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.log import state as states
from rlu_attestation.log.comparing import compare
from rlu_attestation.log.finding import Finding
from rlu_attestation.log.follow import Report, follow
from rlu_attestation.log.state import State
from rlu_attestation.log_client import LogClient, attested
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Result, Verdict
from rlu_attestation.verifier import Context, verify

NONCE_SIZE = 32


@dataclass(frozen=True, slots=True)
class Look:
    """One look: the verdict on the instance, and what the log showed (nothing, if the instance was not accepted)."""

    verdict: Verdict
    report: Report | None
    at: int


@dataclass(frozen=True, slots=True)
class Observer:
    """Whoever follows one server's log."""

    client: LogClient
    policy: Policy
    insecure: bool
    entries: bool
    max_age_s: int | None

    def instance(self) -> tuple[Verdict, InstanceClaims | None]:
        """Verify the instance; None: it was not accepted."""
        nonce = secrets.token_bytes(NONCE_SIZE)
        bundle, claims = attested(self.client, nonce)
        verdict = verify(
            Context(
                bundle=bundle,
                policy=self.policy,
                at=int(time.time()),
                nonce=nonce,
                channel=self.client.spki_sha256,
                plaintext=self.client.plaintext,
                insecure_accept_software_key=self.insecure,
            )
        )
        accepted = verdict.result in (Result.VERIFIED, Result.WAIVED)
        return verdict, claims if accepted else None

    def look(self, state: State | None, held: Sequence[Logged], others: Sequence[State]) -> Look:
        """Verify the instance, then follow its log from `state`."""
        verdict, claims = self.instance()
        if claims is None:
            return Look(verdict, None, int(time.time()))
        view = self.client.view(claims, state, entries=self.entries, held=held)
        at = int(time.time())
        return Look(verdict, self._compare(follow(state, view, at, self.max_age_s), others), at)

    def _compare(self, report: Report, others: Sequence[State]) -> Report:
        findings: list[Finding] = list(report.findings)
        for other in others if report.state is not None else ():
            assert report.state is not None
            found = compare(report.state, other, self.client.path_between(report.state, other))
            if found is not None:
                findings.append(found)
        return Report(tuple(findings), report.state)


def load_state(path: Path) -> State | None:
    """The state; None if there is no such file yet.

    Raises:
        Unreadable: `file.unreadable`.
        Malformed: `audit.state`.
    """
    if not path.exists():
        return None
    return states.parse(read(path, states.MAX_STATE))


def save_state(path: Path, state: State) -> None:
    """Replace the state file; on the disk before this returns.

    Raises:
        Unreadable: `file.unwritable`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(state.encode())
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Unreadable("file.unwritable", f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep a second observer from the same state file.

    Raises:
        Untrusted: `audit.in_use`.
    """
    import fcntl

    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unreadable("file.unwritable", f"cannot write {lock}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InUse("audit.in_use", f"another observer uses {path}") from error
        yield
    finally:
        os.close(descriptor)


class InUse(RluError):
    """Two observers share one state file."""

    exit_code = 2


def held_in(files: Sequence[Path]) -> list[Logged]:
    """The statements in bundles.

    Raises:
        Unreadable: `file.unreadable`.
        Malformed: `bundle.encoding`.
    """
    found: list[Logged] = []
    for file in files:
        bundle = load_bundle(file)
        found += [item for item in (bundle.session, bundle.close) if item is not None]
        found += [exchange.logged for exchange in bundle.exchanges]
    return found


def rejected(verdict: Verdict) -> Untrusted:
    """For who cannot go on with an instance that was not accepted."""
    codes = ", ".join(step.code for step in verdict.steps if step.code)
    return Untrusted("audit.instance", f"the instance was not accepted ({codes}); see `rlu verify`")
