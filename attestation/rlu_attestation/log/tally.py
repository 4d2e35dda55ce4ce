"""The entry in which an attestor counts what its log holds since the tally before (FORMATS section 11.6).

A leaf is a blinded hash: nobody can tell a session from a receipt by it, and the attestor keeps no statements. So the attestor counts
while it happens, and logs the count. Each tally begins where the one before ended: whoever has all of them under one signed head has all of
the log counted, in numbers that were signed when they were made and cannot be changed later. They hold no content, no pseudonym and no
session.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlu_attestation import canonical
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed
from rlu_attestation.instance import InstanceClaims, Predecessor
from rlu_attestation.mentions import CanaryMention, LicenceMention
from rlu_attestation.statements import STATUSES

TALLY_PROFILE = "tag:rlu.internal,2026:tally#1"
BLIND_SIZE = 16
MAX_PROFILES = 64
MAX_MODELS = 64
MAX_CODES = 64
MAX_TALLY = 48 * 1024
_CODE = re.compile(r"[a-z0-9_.-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stated:
    """What the instance statements of a profile say of place and kind; the profile digest covers it."""

    boundary: str
    hardware: str
    models: tuple[str, ...]
    region: str
    site: str

    @classmethod
    def of(cls, claims: InstanceClaims) -> Stated:
        """From a statement."""
        models = (claims.model_name, *(model.name for model in claims.further_models))
        return cls(claims.boundary, claims.hardware_profile, models, claims.region, claims.site)

    def to_json(self) -> dict[str, Any]:
        return {
            "boundary": self.boundary,
            "hardware": self.hardware,
            "models": list(self.models),
            "region": self.region,
            "site": self.site,
        }

    @classmethod
    def read(cls, members: Members) -> Stated:
        """Raises Malformed."""
        stated = cls(
            members.text("boundary"),
            members.text("hardware"),
            members.texts("models", MAX_MODELS),
            members.text("region"),
            members.text("site"),
        )
        if not stated.models:
            raise Malformed("statement.claims", "an instance serves a model")
        return stated


@dataclass(frozen=True, slots=True)
class OfProfile:
    """What was counted of one instance profile.

    Attributes:
        sessions: that were opened under it.
        renewed: statements that the attestor made by itself, with fresh evidence: re-attestations.
        asked: statements that it made for a nonce.
        stated: absent where the attestor has made no statement of this profile since it was started.
    """

    profile: bytes
    sessions: int
    renewed: int
    asked: int
    stated: Stated | None

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            "asked": self.asked,
            "profile": b64u(self.profile),
            "renewed": self.renewed,
            "sessions": self.sessions,
        }
        return value if self.stated is None else {**value, "stated": self.stated.to_json()}

    @classmethod
    def read(cls, value: object) -> OfProfile:
        """Raises Malformed."""
        with Members(value, "tally: rlu_profiles") as members:
            stated = None
            if "stated" in members:
                with members.object("stated") as inner:
                    stated = Stated.read(inner)
            return cls(
                members.binary("profile", 32),
                members.count("sessions"),
                members.count("renewed"),
                members.count("asked"),
                stated,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The entries from `first` up to, and not including, `next`, counted. `next` is the tally's own index.

    Attributes:
        number: of the tally, from 1 on; the first one begins with entry 0.
        since: time of the tally before; None for the first one.
        sessions: more than those of the profiles together where the profile of some is not known any more.
        successor: the instance that opens sessions since this one's key stepped down.
        refused: sessions that the attestor did not open, by code. Counted in memory: a crash loses those since the last tally.
        drift: what continuous re-attestation found, by code; counted like `refused`.
        policy: digest of the policy of continuous re-attestation.
        canary, licence: what the statements named last.
    """

    issuer: str
    issued_at: int
    blind: bytes
    number: int
    first: int
    next: int
    since: int | None
    start_count: int
    key_created: int
    key_hardware: str
    predecessor: Predecessor | None
    sessions: int
    profiles: tuple[OfProfile, ...]
    receipts: Mapping[str, int]
    closes: int
    gaps: int
    refused: Mapping[str, int]
    drift: Mapping[str, int]
    policy: bytes | None = None
    canary: CanaryMention | None = None
    licence: LicenceMention | None = None
    successor: str | None = None

    def __post_init__(self) -> None:
        counted = self.sessions + sum(self.receipts.values()) + self.closes + self.gaps
        if self.next - self.first != counted:
            raise Malformed("statement.claims", "a tally counts every entry before it once")
        if (self.number == 1) != (self.since is None) or (self.number == 1 and self.first):
            raise Malformed(
                "statement.claims", "the first tally, and no other, begins with entry 0 and without a time"
            )
        if sum(one.sessions for one in self.profiles) > self.sessions:
            raise Malformed("statement.claims", "a tally's profiles have more sessions than it has")
        if (self.since or 0) > self.issued_at:
            raise Malformed("statement.claims", "a tally ends before it begins")

    def encode(self) -> bytes:
        """Canonical bytes; their leaf hash goes into the log."""
        value: dict[str, Any] = {
            "eat_profile": TALLY_PROFILE,
            "iat": self.issued_at,
            "iss": self.issuer,
            "rlu_blind": b64u(self.blind),
            "rlu_closes": self.closes,
            "rlu_drift": dict(self.drift),
            "rlu_first": self.first,
            "rlu_gaps": self.gaps,
            "rlu_key": {"created": self.key_created, "hardware": self.key_hardware},
            "rlu_next": self.next,
            "rlu_number": self.number,
            "rlu_profiles": [one.to_json() for one in self.profiles],
            "rlu_receipts": {status: self.receipts.get(status, 0) for status in STATUSES},
            "rlu_refused": dict(self.refused),
            "rlu_sessions": self.sessions,
            "rlu_start_count": self.start_count,
        }
        if self.since is not None:
            value["rlu_since"] = self.since
        if self.predecessor is not None:
            value["rlu_predecessor"] = {"head": b64u(self.predecessor.head), "iss": self.predecessor.issuer}
        if self.successor is not None:
            value["rlu_successor"] = self.successor
        if self.policy is not None:
            value["rlu_policy"] = b64u(self.policy)
        if self.canary is not None:
            value["rlu_canary_report"] = self.canary.to_json()
        if self.licence is not None:
            value["rlu_licence"] = self.licence.to_json()
        return canonical.encode(value)

    @classmethod
    def parse(cls, data: bytes) -> Tally:
        """Raises Malformed for anything but a canonical tally."""
        with Members(canonical.decode(data, MAX_TALLY), "tally") as members:
            members.exactly("eat_profile", TALLY_PROFILE)
            with members.object("rlu_key") as key:
                created, hardware = key.count("created"), key.text("hardware")
            with members.object("rlu_receipts") as receipts:
                by_status = {status: receipts.count(status) for status in STATUSES}
            predecessor = None
            if "rlu_predecessor" in members:
                with members.object("rlu_predecessor") as inner:
                    predecessor = Predecessor(inner.text("iss"), inner.binary("head"))
            return cls(
                issuer=members.text("iss"),
                issued_at=members.count("iat"),
                blind=members.binary("rlu_blind", BLIND_SIZE),
                number=_from_one(members.count("rlu_number")),
                first=members.count("rlu_first"),
                next=members.count("rlu_next"),
                since=members.optional(members.count, "rlu_since"),
                start_count=members.count("rlu_start_count"),
                key_created=created,
                key_hardware=hardware,
                predecessor=predecessor,
                sessions=members.count("rlu_sessions"),
                profiles=_profiles(members.value("rlu_profiles")),
                receipts=by_status,
                closes=members.count("rlu_closes"),
                gaps=members.count("rlu_gaps"),
                refused=_codes(members, "rlu_refused"),
                drift=_codes(members, "rlu_drift"),
                policy=members.optional(members.binary, "rlu_policy", 32),
                canary=CanaryMention.read(members, "rlu_canary_report")
                if "rlu_canary_report" in members
                else None,
                licence=LicenceMention.read(members, "rlu_licence") if "rlu_licence" in members else None,
                successor=members.optional(members.text, "rlu_successor"),
            )


def _from_one(number: int) -> int:
    if number == 0:
        raise Malformed("statement.claims", "tallies are numbered from 1")
    return number


def _profiles(value: object) -> tuple[OfProfile, ...]:
    if not isinstance(value, list) or len(value) > MAX_PROFILES:
        raise Malformed("statement.claims", f"a tally has at most {MAX_PROFILES} profiles")
    found = tuple(map(OfProfile.read, value))
    digests = [one.profile for one in found]
    if digests != sorted(set(digests)):
        raise Malformed("statement.claims", "a tally's profiles are sorted, and none is there twice")
    return found


def is_code(text: str) -> bool:
    """May a tally hold it as a code?"""
    return _CODE.fullmatch(text) is not None


def _codes(members: Members, name: str) -> dict[str, int]:
    found = members.mapping(name)
    fits = all(is_code(code) and type(n) is int and n > 0 for code, n in found.items())
    if len(found) > MAX_CODES or not fits:
        raise Malformed("statement.claims", f"tally: {name} is at most {MAX_CODES} codes, each with a count")
    return found
