"""What a report may say: this, and nothing else. Pure.

Every field is one of our own words, or a *magnitude*: the number of decimal digits of a count (0 for none, 1 for 1 to 9, 2 for 10 to 99).
There is no field that a name, an id, a path or a text of anybody could be put into; `parse` refuses whatever is not exactly this, and what
is sent went through `parse`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rlu_attestation import canonical, signed_json
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.policy_signature import PrivateKey, PublicKey

TYPE = "rlu-telemetry+jwt"
PROFILE = "tag:rlu.internal,2026:telemetry#1"
CODE = "telemetry.report"

Magnitude = Annotated[int, Meta(ge=0, le=19)]
Day = Annotated[str, Meta(pattern=r"^20[0-9]{2}-[01][0-9]-[0-3][0-9]$")]
Version = Annotated[str, Meta(pattern=r"^[0-9]{1,4}\.[0-9]{1,4}(\.[0-9]{1,4})?$")]
_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}(\.[0-9]{1,4})?")


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One report. Counts are since the gateway's start."""

    profile: Literal["tag:rlu.internal,2026:telemetry#1"]
    day: Day
    """Date of the report, UTC."""
    version: Version
    """Of this server, without anything after its numbers."""
    key: Literal["azure-vtpm", "gcp-vtpm", "nitro", "nitrotpm", "none", "sev-snp", "tdx", "tpm2"]
    """What holds the attestation key."""
    gpus: Literal["none", "nvidia", "amd"]
    licensed: bool
    """Whether a licence is configured."""
    engines: Magnitude
    engine_retries: Magnitude
    sessions: Magnitude
    complete: Magnitude
    partial: Magnitude
    aborted: Magnitude
    failed: Magnitude
    refusals: Magnitude
    input_tokens: Magnitude
    output_tokens: Magnitude

    def sign(self, key: PrivateKey) -> str:
        """What is sent. With an Ed25519 key it is the same every time."""
        return signed_json.sign(TYPE, msgspec.to_builtins(self), key)


COUNTERS: Mapping[str, tuple[str, str]] = {
    "engine_retries": ("rlu_engine_retries_total", ""),
    "sessions": ("rlu_sessions_opened_total", ""),
    "complete": ("rlu_receipts_total", "complete"),
    "partial": ("rlu_receipts_total", "partial"),
    "aborted": ("rlu_receipts_total", "aborted"),
    "failed": ("rlu_receipts_total", "failed"),
    "refusals": ("rlu_refusals_total", ""),
    "input_tokens": ("rlu_input_tokens_total", ""),
    "output_tokens": ("rlu_output_tokens_total", ""),
}
"""Field to metric, and the value of its label `status` where only that counts."""


def magnitude(count: float) -> int:
    """How many decimal digits a count has; 0 for none."""
    whole = int(count)
    return min(len(str(whole)), 19) if whole > 0 else 0


def version_of(text: str) -> str:
    """The numbers that a version begins with."""
    found = _VERSION.match(text)
    return found[0] if found else "0.0"


def compose(
    counts: Mapping[tuple[str, str], float],
    *,
    day: str,
    version: str,
    key: str,
    gpus: str,
    licensed: bool,
    engines: int,
) -> Report:
    """A report of what was counted.

    Args:
        counts: metric and its label `status` (or nothing) to the sum over all other labels.

    Raises:
        Malformed: `telemetry.report`.
    """
    fields = {name: magnitude(counts.get(place, 0)) for name, place in COUNTERS.items()}
    return _checked(
        {
            "profile": PROFILE,
            "day": day,
            "version": version_of(version),
            "key": key,
            "gpus": gpus,
            "licensed": licensed,
            "engines": magnitude(engines),
            **fields,
        }
    )


def parse(text: str, key: PublicKey) -> Report:
    """A report that this key signed.

    Raises:
        Malformed: `telemetry.encoding`, `telemetry.report`: not exactly the fields above.
        Untrusted: `telemetry.key`, `telemetry.signature`.
    """
    return _checked(signed_json.verify(TYPE, text, [key], "telemetry"))


def _checked(value: object) -> Report:
    try:
        report = msgspec.convert(value, Report, strict=True)
        canonical.encode(msgspec.to_builtins(report))
    except (msgspec.ValidationError, RluError) as error:
        raise Malformed(CODE, f"not a telemetry report of this version: {error}") from error
    return report
