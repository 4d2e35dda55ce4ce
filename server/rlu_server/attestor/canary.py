"""Takes over the findings of a canary test: the attestor composes the report itself, signs it, keeps it, and names it in its statements.

Nothing in a report is the asker's own words. Findings are numbers and names from fixed lists (`rlu_attestation.canary`); what they say of
model, engine and gateway must be what this instance states of itself; and the result follows from the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from rlu_attestation import canary, canonical, jose
from rlu_attestation.canary import CanaryReport, Findings
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.mentions import CanaryMention
from rlu_server.attestor import facts
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.secret import write_private

FILE = "canary-report.jws"
OLDEST_S = 7 * 86400
"""How long after its end a test is taken over."""
AHEAD_S = 60


class Canary:
    """The last report of this attestor.

    Args:
        directory: of the attestor's state, `<state>/attestation`.
        facts_directory: `<runtime>/facts`.

    Attributes:
        mention: what instance statements say of it. A file that does not verify is no report.
    """

    def __init__(self, directory: Path, facts_directory: Path, clock: Callable[[], int]) -> None:
        self._file = directory / FILE
        self._facts = facts_directory
        self._clock = clock
        self.mention: CanaryMention | None = None
        try:
            self.mention = canary.mention(self._file.read_text("ascii").strip())
        except (OSError, UnicodeDecodeError, RluError):
            return

    def compose(self, text: str, jwk: dict[str, str]) -> CanaryReport:
        """The report on findings, in canonical JSON; not signed yet.

        Raises:
            RluError: they are not findings; `canary.other_deployment`; `canary.time`.
        """
        findings = Findings.read(canonical.decode(text.encode("utf-8", "surrogatepass"), canary.MAX_REPORT))
        self._check(findings)
        return CanaryReport(jwk, self._clock(), findings)

    def keep(self, report: CanaryReport, signature: bytes) -> str:
        """The signed report, on the disk and in every statement from now on.

        Raises:
            RluError: the signature does not verify.
            OSError: it cannot be kept.
        """
        text = jose.jws_assemble(report.signing_input(), signature)
        mention = canary.mention(text)
        write_private(self._file, text.encode("ascii") + b"\n")
        self.mention = mention
        return text

    def _check(self, findings: Findings) -> None:
        known = facts.read(self._facts).instance
        ours = (known.engine.name, known.engine.version, unb64u(known.engine.arguments_sha256))
        theirs = (findings.engine.name, findings.engine.version, findings.engine.digest)
        if (
            findings.model_manifest != unb64u(known.model.manifest_sha256)
            or ours != theirs
            or (findings.gateway.name, findings.gateway.version) != ("rlu", metadata.version("rlu"))
        ):
            raise AttestorError(
                "canary.other_deployment",
                "the test was made with another model, engine, arguments or version than this instance states: run it again with "
                "these settings",
            )
        now = self._clock()
        if not findings.began <= findings.ended <= now + AHEAD_S or findings.ended < now - OLDEST_S:
            raise AttestorError(
                "canary.time", "the test ended in the future, or more than a week ago: run it again"
            )
