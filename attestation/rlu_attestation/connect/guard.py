"""What is known of the server, and how that is renewed: nothing private leaves without a session that verified.

One session serves a whole run, whatever conversations the client has in it: nonce, TLS key, policy and principal are the run's, and which
conversation a request belongs to is only the client's word. It is replaced, after the instance was verified anew, when its statement or
the instance's runs out, when the server has ended it, when the TLS key has changed, or after 1,000 exchanges.

The order is the point. The attestation is asked for on a connection of its own, which carries no secret and whose TLS key is recorded.
Only when the verdict accepts statement and key are all other connections bound to that key (`Adopt`), and only those carry the API key
and prompts.

A server that was not accepted is asked again after ten seconds at the earliest. One that gave *false* proof of an answer is not asked
again at all: whoever runs `rlu connect` has to look.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rlu_attestation import answers
from rlu_attestation.bundle import Bundle
from rlu_attestation.connect.errors import Unproven
from rlu_attestation.connect.session import Session, establish, instance_of, nonce_body, verify_instance
from rlu_attestation.connect.status import Status, region_of, waivers_of
from rlu_attestation.connect.steps import Adopt, Ask, Lock, Look, Meet, Moment, Report, Talk, Told, Unlock
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError, Unreachable, Untrusted
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Result, Verdict
from rlu_attestation.verifier import Context

RETRY_S = 10.0


@dataclass(slots=True, eq=False)
class Guard:
    """The state of a run.

    Attributes:
        accept_instance_change: go on, after verification, when the server is another instance than before.
        failures: what was found false or unproven, by code, in order.
        broken: false proof was given; nothing is sent any more.
    """

    policy: Policy
    plaintext: bool = False
    insecure_accept_software_key: bool = False
    accept_instance_change: bool = False
    failures: list[str] = field(default_factory=list)
    broken: RluError | None = None
    session: Session | None = None
    retired: list[Session] = field(default_factory=list)
    _issuer: str = ""
    _refused: tuple[float, RluError] | None = None

    def ready(self) -> Talk[Session]:
        """A session that may be used now.

        Raises:
            RluError: there is none, and why.
        """
        moment: Moment = yield Look()
        if self._usable(moment):
            assert self.session is not None
            return self.session
        yield Lock()
        try:
            moment = yield Look()
            if not self._usable(moment):
                yield from self._renew(moment)
            found = self.session
            assert found is not None
        except RluError:
            yield Unlock()
            raise
        yield Unlock()
        return found

    def drop(self, session: Session, *, gone: bool = False) -> None:
        """Use this session for nothing new. If the server still has it, it is to be closed."""
        if self.session is session:
            self.session = None
            if not gone:
                self.retired.append(session)

    def failed(self, error: RluError, session: Session | None) -> Talk[None]:
        """Take note of an exchange that failed."""
        if isinstance(error, Unreachable):
            yield Report(Status(event="unreachable", code=error.code, message=error.message))
            return
        self.failures.append(error.code)
        event = "unproven"
        if not isinstance(error, Unproven):
            self.broken, event = error, "rejected"
        named = "" if session is None else session.id
        yield Report(Status(event=event, code=error.code, message=error.message, session=named))

    def _usable(self, moment: Moment) -> bool:
        if self.broken is not None:
            raise self.broken
        return self.session is not None and not self.session.due(moment.at)

    def _renew(self, moment: Moment) -> Talk[None]:
        if self._refused is not None and moment.monotonic < self._refused[0]:
            raise self._refused[1]
        if self.session is not None:
            self.drop(self.session)
        try:
            session = yield from self._open(moment)
        except Unreachable as error:
            yield Report(Status(event="unreachable", code=error.code, message=error.message))
            raise
        except RluError as error:
            self.failures.append(error.code)
            self._refused = (moment.monotonic + RETRY_S, error)
            yield Report(Status(event="rejected", code=error.code, message=error.message))
            raise
        self.session, self._refused = session, None
        yield Report(self.status(session))

    def _open(self, moment: Moment) -> Talk[Session]:
        nonce = moment.nonce
        told: Told = yield Meet(f"/v1/rlu/attestation?nonce={b64u(nonce)}")
        bundle = answers.attested(_expect(200, told).content, nonce, told.spki_sha256)
        moment = yield Look()
        verify_instance(self._context(bundle, nonce, moment.at))
        self._same_instance(bundle)
        yield Adopt(told.spki_sha256)
        made: Told = yield Ask("POST", "/v1/rlu/sessions", nonce_body(nonce))
        opened = answers.opened(answers.parse_json(_expect(201, made).content, "a session"))
        bundle = Bundle(
            statement=bundle.statement,
            evidence=bundle.evidence,
            channel=bundle.channel,
            nonce=nonce,
            session=opened.logged,
            commitment_key=opened.commitment_key,
        )
        moment = yield Look()
        return establish(self._context(bundle, nonce, moment.at))

    def _same_instance(self, bundle: Bundle) -> None:
        issuer = instance_of(bundle)
        if self._issuer and issuer != self._issuer and not self.accept_instance_change:
            raise Untrusted("instance.changed", "the server is another instance than before")
        self._issuer = issuer

    def _context(self, bundle: Bundle, nonce: bytes, at: int) -> Context:
        return Context(
            bundle=bundle,
            policy=self.policy,
            at=at,
            nonce=nonce,
            channel=bundle.channel,
            plaintext=self.plaintext,
            insecure_accept_software_key=self.insecure_accept_software_key,
        )

    def status(self, session: Session) -> Status:
        """What to tell of a session that was accepted."""
        verdict: Verdict = session.verdict
        claims = session.signed.claims
        return Status(
            event="verified" if verdict.result is Result.VERIFIED else "waived",
            instance=claims.ueid,
            model=claims.model_name,
            region=region_of(verdict),
            session=session.id,
            expires=session.renew_at,
            waivers=tuple(waivers_of(verdict)),
        )


def _expect(status: int, told: Told) -> Told:
    if told.status == status:
        return told
    raise Unreachable("server.refused", f"the server answered {told.status}{answers.problem(told.content)}")
