"""What a licence says, and what the vendor answers when it is asked about one (FORMATS section 16). Pure: times are arguments."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rlu_attestation import canonical, signed_json
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.policy_signature import PrivateKey, PublicKey

TYPE, PROFILE = "rlu-licence+jwt", "tag:rlu.internal,2026:licence#1"
ANSWER_TYPE, ANSWER_PROFILE = "rlu-licence-answer+jwt", "tag:rlu.internal,2026:licence-answer#1"
QUESTION_PROFILE = "tag:rlu.internal,2026:licence-question#1"
MAX_FEATURES, MAX_NODES, MAX_GRACE_S = 64, 1_000_000, 366 * 86400
GOOD, WITHDRAWN = "good", "withdrawn"
STATUSES = (GOOD, WITHDRAWN)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_FEATURE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """A licence. Times are seconds since the epoch.

    Attributes:
        id: the vendor's number for it.
        features: what was agreed; nothing in this server depends on one.
        nodes: instances that may serve at the same time. One instance cannot count the others.
        grace_s: for so long after the end sessions are still opened.
    """

    id: str
    vendor: str
    organisation: str
    features: tuple[str, ...]
    nodes: int
    issued_at: int
    not_before: int
    expires_at: int
    grace_s: int

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise Malformed("licence.claims", "the id is 1 to 64 letters, digits, - and _")
        if not all(map(_FEATURE.fullmatch, self.features)) or list(self.features) != sorted(
            set(self.features)
        ):
            raise Malformed("licence.claims", "features are words in lower case, sorted, none twice")
        if not 1 <= self.nodes <= MAX_NODES or not 0 <= self.grace_s <= MAX_GRACE_S:
            raise Malformed(
                "licence.claims", f"nodes: 1 to {MAX_NODES}; grace: at most {MAX_GRACE_S} seconds"
            )
        if not self.not_before < self.expires_at:
            raise Malformed("licence.claims", "it must end after it begins")

    def to_json(self) -> dict[str, Any]:
        return {
            "exp": self.expires_at,
            "iat": self.issued_at,
            "iss": self.vendor,
            "jti": self.id,
            "nbf": self.not_before,
            "profile": PROFILE,
            "rlu_features": list(self.features),
            "rlu_grace_s": self.grace_s,
            "rlu_nodes": self.nodes,
            "sub": self.organisation,
        }

    def sign(self, key: PrivateKey) -> str:
        """The licence file, without a line's end."""
        return signed_json.sign(TYPE, self.to_json(), key)

    @classmethod
    def verify(cls, text: str, keys: Iterable[PublicKey]) -> Licence:
        """A licence that one of these keys signed. Whether it is in force is `standing.judge`'s.

        Raises:
            Malformed: `licence.encoding`, `licence.claims`.
            Untrusted: `licence.key`, `licence.signature`.
        """
        payload = signed_json.verify(TYPE, text, keys, "licence")
        try:
            with Members(payload, "licence") as members:
                members.exactly("profile", PROFILE)
                return cls(
                    id=members.text("jti"),
                    vendor=members.text("iss"),
                    organisation=members.text("sub"),
                    features=members.texts("rlu_features", MAX_FEATURES),
                    nodes=members.count("rlu_nodes"),
                    issued_at=members.count("iat"),
                    not_before=members.count("nbf"),
                    expires_at=members.count("exp"),
                    grace_s=members.count("rlu_grace_s"),
                )
        except Malformed as error:
            raise Malformed("licence.claims", error.message) from error


def digest(text: str) -> bytes:
    """By what instance statements name a licence: SHA-256 of the file without its line's end."""
    return hashlib.sha256(text.encode("utf-8")).digest()


@dataclass(frozen=True, slots=True)
class Question:
    """All that an online validation sends: the licence's id and the instance statement."""

    licence: str
    statement: str

    def encode(self) -> bytes:
        """The bytes that are sent."""
        return canonical.encode(
            {"licence": self.licence, "profile": QUESTION_PROFILE, "statement": self.statement}
        )

    @classmethod
    def parse(cls, data: bytes) -> Question:
        """For who answers, and for whatever looks at what passes.

        Raises:
            Malformed: `licence.question`.
        """
        try:
            with Members(canonical.decode(data), "licence question") as members:
                members.exactly("profile", QUESTION_PROFILE)
                statement = members.value("statement")
                if not isinstance(statement, str):
                    raise Malformed("licence.question", "the statement is a string")
                return cls(members.text("licence"), statement)
        except RluError as error:
            raise Malformed("licence.question", error.message) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """What the vendor says of a licence, in answer to one question."""

    licence: str
    status: str
    issued_at: int
    statement: bytes
    """SHA-256 of the statement that was sent, so that an answer cannot be used for another question."""

    def sign(self, key: PrivateKey) -> str:
        payload = {
            "iat": self.issued_at,
            "jti": self.licence,
            "profile": ANSWER_PROFILE,
            "statement_sha256": b64u(self.statement),
            "status": self.status,
        }
        return signed_json.sign(ANSWER_TYPE, payload, key)

    @classmethod
    def verify(cls, text: str, keys: Iterable[PublicKey]) -> Answer:
        """An answer that one of the vendor's keys signed.

        Raises:
            Malformed: `licence.answer.encoding`, `licence.answer.claims`.
            Untrusted: `licence.answer.key`, `licence.answer.signature`.
        """
        payload = signed_json.verify(ANSWER_TYPE, text, keys, "licence.answer")
        try:
            with Members(payload, "licence answer") as members:
                members.exactly("profile", ANSWER_PROFILE)
                return cls(
                    members.text("jti"),
                    members.choice("status", STATUSES),
                    members.count("iat"),
                    members.binary("statement_sha256", 32),
                )
        except RluError as error:
            raise Malformed("licence.answer.claims", error.message) from error
