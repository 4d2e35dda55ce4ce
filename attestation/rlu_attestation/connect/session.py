"""A session whose instance and statement were verified, and the proof of each exchange in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from rlu_attestation.bundle import Bundle, Exchange, Logged
from rlu_attestation.connect.errors import Unproven
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError, Unsupported, Untrusted
from rlu_attestation.statements import Receipt, SessionStatement
from rlu_attestation.verdict import Blame, Outcome, Result, Step, Verdict
from rlu_attestation.verifier import Context, verify
from rlu_attestation.verifier.context import SignedStatement, VerifiedSession
from rlu_attestation.verifier.exchanges import VerifiedExchange, check_close, check_exchanges
from rlu_attestation.verifier.instance import parse_statement, verify_statement
from rlu_attestation.verifier.session import verify_leaf
from rlu_attestation.verifier.trail import Failed, Trail

MAX_EXCHANGES = 1000
"""Exchanges of one session; their receipts are kept until its close, which must count them all."""
MARGIN_S = 60
_NOT_MADE = (".absent", ".silent", ".partial", ".gap")
_ORIGIN = ("receipt.inclusion", "receipt.statement", "receipt.session")


@dataclass(slots=True, eq=False)
class Session:
    """Open. `context` holds the bundle that was verified, and the policy.

    Attributes:
        users: exchanges that are using it.
        open: receipts' paths of answers that began and are not proven.
    """

    verdict: Verdict
    context: Context
    signed: SignedStatement
    verified: VerifiedSession
    renew_at: int
    exchanges: list[VerifiedExchange] = field(default_factory=list)
    users: int = 0
    open: dict[str, None] = field(default_factory=dict)
    _numbers: set[int] = field(default_factory=set)

    @property
    def statement(self) -> SessionStatement:
        return self.verified.statement

    @property
    def id(self) -> str:
        return self.statement.session

    def due(self, at: int) -> bool:
        """Is it time for a new one?"""
        return at >= self.renew_at or len(self.exchanges) >= MAX_EXCHANGES

    def prove(self, logged: Logged, request: bytes, response: bytes, at: int) -> Receipt:
        """The receipt, once it is shown to be signed, of this session, used for no other exchange, and about exactly these bytes.

        Raises:
            RluError: the code of the first step that failed, or `receipt.replayed`.
            Unproven: what the receipt would have to say, it does not.
        """
        found, failures = self._check(Exchange(logged, request, response), at)
        _raise(step for step in failures if step.id in _ORIGIN)
        if found.receipt.seq in self._numbers:
            raise Untrusted(
                "receipt.replayed", f"receipt {found.receipt.seq} was given for an earlier answer"
            )
        _raise(failures)
        self._keep(found)
        return found.receipt

    def account(self, logged: Logged, at: int) -> None:
        """Count the receipt of an exchange whose bytes are not here, because the client left."""
        found, failures = self._check(Exchange(logged), at)
        _raise(step for step in failures if step.id in _ORIGIN)
        if found.receipt.seq not in self._numbers:
            self._keep(found)

    def check_close(self, logged: Logged, at: int) -> None:
        """The session ended, and the receipts here are all it had. Raises as `prove` does."""
        trail = Trail(self.context.policy.waivers)
        check_close(trail, replace(self.context, at=at), self.signed, self.verified, self.exchanges, logged)
        _raise(_failures(trail))

    def _check(self, exchange: Exchange, at: int) -> tuple[VerifiedExchange, Sequence[Step]]:
        context = replace(self.context, at=at, bundle=replace(self.context.bundle, exchanges=(exchange,)))
        trail = Trail(context.policy.waivers)
        key = context.bundle.commitment_key
        assert key is not None  # `establish` saw to it
        (found,) = check_exchanges(trail, context, self.signed, self.verified, key)
        failures = _failures(trail)
        if isinstance(found, Failed):
            _raise(failures)
        assert isinstance(found, VerifiedExchange)  # neither its inclusion nor its reading can be waived
        return found, failures

    def _keep(self, found: VerifiedExchange) -> None:
        self._numbers.add(found.receipt.seq)
        self.exchanges.append(found)


def verify_instance(context: Context) -> Verdict:
    """Judge an instance before anything private is sent to it.

    Raises:
        RluError: the verdict, unless it is *verified* or *verified except for waivers*.
    """
    return _judge(context, frozenset({"instance"}))


def establish(context: Context) -> Session:
    """The session in the context's bundle, verified.

    What the policy requires beyond instance and session is shown while the session lasts: every receipt is verified, and the close.

    Raises:
        RluError: as `verify_instance`.
    """
    verdict = _judge(context, frozenset({"instance", "session"}))
    bundle = context.bundle
    assert bundle.session is not None  # it is what was asked about
    signed = verify_statement(parse_statement(bundle.statement))
    leaf = verify_leaf(signed, bundle.session, context)
    session = SessionStatement.parse(leaf.statement)
    claims = signed.claims
    end = min(session.expires_at, claims.expires_at, claims.issued_at + context.policy.max_statement_age_s)
    return Session(
        verdict=verdict,
        context=context,
        signed=signed,
        verified=VerifiedSession(session, leaf),
        renew_at=end - min(MARGIN_S, max(end - context.at, 0) // 10),
    )


def _judge(context: Context, covered: frozenset[str]) -> Verdict:
    policy = replace(context.policy, require=context.policy.require & covered)
    verdict = verify(replace(context, policy=policy))
    if verdict.result in (Result.VERIFIED, Result.WAIVED):
        return verdict
    failures = [step for step in verdict.failures if not step.code.endswith(".not_checked")]
    failures = failures or list(verdict.failures)
    kind = {Result.MALFORMED: Malformed, Result.UNSUPPORTED: Unsupported}.get(verdict.result, Untrusted)
    shown = "; ".join(f"{step.title.lower()}: {step.detail} ({step.code})" for step in failures[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    code = failures[0].code if failures else "policy.coverage.missing"
    raise kind(code, f"the server was not accepted: {shown}{more}")


def _failures(trail: Trail) -> Sequence[Step]:
    return [step for step in trail.steps if step.outcome is Outcome.FAILED]


def _raise(failures: Iterable[Step]) -> None:
    """The first failure, as the error it is."""
    for step in failures:
        kind: type[RluError] = Malformed if step.blame is Blame.MALFORMED else Untrusted
        if step.code.endswith(_NOT_MADE):
            kind = Unproven
        raise kind(step.code, step.detail)


def instance_of(bundle: Bundle) -> str:
    """The `iss` of a bundle's statement, as it says."""
    return parse_statement(bundle.statement).claims.issuer


def nonce_body(nonce: bytes) -> bytes:
    """What opens a session."""
    return b'{"nonce":"%b"}' % b64u(nonce).encode("ascii")
