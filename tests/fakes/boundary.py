"""Deployments that are nothing but logs: keys, entries, tallies, and reports about them. The verifier's code has no part in the trees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from fakes.tpm import private_key
from reference import merkle as naive
from rlu_attestation import cose, jose
from rlu_attestation.boundary.check import Examined, check
from rlu_attestation.boundary.figures import Log, asserted, compute
from rlu_attestation.boundary.report import Counted, Figure, InstanceLog, Report
from rlu_attestation.instance import Predecessor, issuer
from rlu_attestation.log.tally import OfProfile, Stated, Tally
from rlu_attestation.mentions import CanaryMention, LicenceMention

HOUR = 3600
BEGIN, END = 1_780_000_000, 1_780_000_000 + 24 * HOUR
AT = END + 10 * HOUR
EUROPE = Stated("sovereign", "h100x8", ("large", "small"), "eu-central-1", "hall 3")
AMERICA = replace(EUROPE, region="us-east-1", hardware="mi300x8")
NOBODY = {"complete": 0, "partial": 0, "aborted": 0, "failed": 0}
KEY = Ed25519PrivateKey.from_private_bytes(b"a report's key, of thirty-two by")


class Instance:
    """A key and its log."""

    def __init__(self, label: str, predecessor: Instance | None = None) -> None:
        self.key = private_key("p256", f"boundary/{label}")
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        self.jwk = jose.public_jwk(self.key.public_key())
        self.issuer = issuer(jose.thumbprint(self.jwk))
        self.leaves: list[bytes] = []
        self.tallies: list[tuple[Tally, bytes]] = []
        self.successor: str | None = None
        self.named: Predecessor | None = None
        self.head = b""
        if predecessor is not None:
            predecessor.successor = self.issuer
            self.named = Predecessor(predecessor.issuer, predecessor.head)
            self.before: Instance | None = predecessor
        else:
            self.before = None

    def tally(self, at: int, sessions: dict[Stated, int], **changes: Any) -> Tally:
        """Sessions, three responses for each, and a close; then the tally of it, and a head."""
        last = self.tallies[-1][0] if self.tallies else None
        count = sum(sessions.values())
        receipts = {**NOBODY, "complete": 2 * count, "aborted": count}
        first = len(self.leaves)
        self.leaves += [
            naive.hash_leaf(f"{self.issuer} {n}".encode()) for n in range(first, first + 5 * count)
        ]
        made = Tally(
            issuer=self.issuer,
            issued_at=at,
            blind=bytes([len(self.tallies)]) * 16,
            number=1 if last is None else last.number + 1,
            first=first,
            next=len(self.leaves),
            since=None if last is None else last.issued_at,
            start_count=changes.pop("start_count", 7),
            key_created=BEGIN - 100 * HOUR,
            key_hardware="tpm2",
            predecessor=self.named,
            sessions=count,
            profiles=tuple(
                sorted(
                    (OfProfile(_profile(where), number, 12, 1, where) for where, number in sessions.items()),
                    key=lambda one: one.profile,
                )
            ),
            receipts=receipts,
            closes=count,
            gaps=0,
            refused={},
            drift={},
            policy=changes.pop("policy", b"p" * 32),
            canary=CanaryMention(b"c" * 32, BEGIN - HOUR, "clean"),
            licence=LicenceMention(b"l" * 32, END + 900 * HOUR),
            successor=self.successor,
        )
        made = replace(made, **changes)
        self.put(made)
        return made

    def put(self, tally: Tally) -> None:
        """A tally as it is, and a head over it."""
        self.tallies.append((tally, tally.encode()))
        self.leaves.append(naive.hash_leaf(tally.encode()))
        self.sign(tally.issued_at)

    def sign(self, at: int) -> None:
        """A head over what there is."""
        protected = cose.head_protected(jose.thumbprint(self.jwk), self.issuer, at, len(self.leaves))
        root = naive.root(self.leaves)
        self.head = cose.assemble_head(
            protected, root, self._signature(cose.signature_input(protected, root))
        )

    def _signature(self, message: bytes) -> bytes:
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def log(self, named: bytes | None, numbers: slice = slice(None)) -> InstanceLog:
        """What a report has of it.

        Args:
            named: the head of it that the next instance names.
            numbers: which of its tallies.
        """
        counted = [
            Counted(data, tuple(naive.path(tally.next, self.leaves))) for tally, data in self.tallies[numbers]
        ]
        extends = [] if named is None else naive.proof(cose.parse_head(named).tree_size, self.leaves)
        return InstanceLog(self.jwk, self.head, tuple(counted), tuple(extends))


def day() -> list[Instance]:
    """A key that was rotated within the period, and that went on with its last sessions; another region since."""
    old = Instance("old")
    old.tally(BEGIN - HOUR, {EUROPE: 1})
    old.tally(BEGIN, {EUROPE: 2}, refused={"drift": 3}, drift={"policy.pcrs": 1})
    old.tally(BEGIN + HOUR, {})
    new = Instance("new", old)
    new.tally(BEGIN + 2 * HOUR, {AMERICA: 1, EUROPE: 1}, start_count=8)
    old.tally(BEGIN + 3 * HOUR, {EUROPE: 1})
    new.named = Predecessor(old.issuer, old.head)
    new.tally(END - 1, {AMERICA: 2}, start_count=9, policy=b"q" * 32)
    new.tally(END, {AMERICA: 4}, start_count=9, policy=b"q" * 32)
    return [old, new]


EGRESS = (
    asserted("egress.journal", 2, sha256="ab" * 32),
    asserted("egress.sent", 512, job="telemetry", destination="telemetry.example:443", proxy="none"),
)


def logs(instances: list[Instance]) -> list[Log]:
    return [Log(i.issuer, cose.parse_head(i.head), tuple(tally for tally, _ in i.tallies)) for i in instances]


def report(instances: list[Instance], figures: tuple[Figure, ...] | None = None) -> Report:
    """About these, oldest first."""
    following = [*instances[1:], None]
    parts = [
        one.log(None if after is None else _named(after))
        for one, after in zip(instances, following, strict=True)
    ]
    if figures is None:
        figures = (*compute(logs(instances), BEGIN, END), *EGRESS)
    return Report(issued_at=AT, begin=BEGIN, end=END, instances=tuple(parts), figures=figures)


def _named(after: Instance) -> bytes | None:
    """The head of the one before that the last tally of an instance names."""
    named = after.tallies[-1][0].predecessor if after.tallies else None
    return None if named is None else named.head


def examined(made: Report, *unknown: str) -> Examined:
    """As somebody sees it who got the file, and knows all instances but these."""
    read = Report.verify(made.sign(KEY), [KEY.public_key()])
    known = {issuer(jose.thumbprint(one.jwk)) for one in made.instances} - set(unknown)
    return check(read, known, AT)


def _profile(where: Stated) -> bytes:
    return naive.hash_leaf(repr(where).encode())
