"""What keys sign beside statements: continuity and revocation (FORMATS section 14), reports of canary tests (section 15)."""

from __future__ import annotations

from rlu_attestation import canary, continuity, cose, revocation_list
from rlu_attestation.encoding import b64u
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.revocation import Revocation


def explain_continuity(text: str) -> Section:
    """A key's word about the next one. Raises Malformed."""
    found = continuity.peek(text)
    rows = (
        Row("iss", found.issuer, "the instance that steps down"),
        Row("iat", str(found.issued_at), "seconds since the epoch"),
        Row("rlu_successor.jkt", b64u(found.successor), "thumbprint of the key that follows"),
        Row("rlu_head", _head(found.head), "head of its log when it stepped down"),
    )
    return Section("Continuity statement: one key's word about the next, and no evidence", rows)


def explain_canary(text: str) -> Section:
    """The report of a canary test. Raises Malformed."""
    report = canary.peek(text)
    found = report.findings
    rows = (
        Row("result", found.result, "as the numbers say; the numbers are asserted by whoever ran the test"),
        Row("iss", report.issuer, "the instance that took it over"),
        Row("iat", str(report.issued_at), "when, in seconds since the epoch"),
        Row("began, ended", f"{found.began}, {found.ended}", "of the test"),
        Row("markers", str(found.markers), f"looked for in {found.forms} forms"),
        Row("returned", str(found.returned), "exchanges whose answer held a marker"),
        Row("exchanges", str(sum(found.exchanges.values())), f"of {len(found.exchanges)} kinds"),
        Row("faults", ", ".join(f"{k} {n}" for k, n in found.faults.items()), "what was broken meanwhile"),
    )
    return Section("Report of a canary test", rows, tuple(_place(k, p) for k, p in found.places.items()))


def _place(name: str, place: canary.Place) -> Section:
    rows = (
        Row("searched", "yes" if place.searched else "no, or not all of it", ""),
        Row("items, bytes", f"{place.items}, {place.size}", "that were read"),
        Row("planted, found", f"{place.planted}, {place.found}", "leaks on purpose"),
        Row("leaks", str(place.leaks), "findings that nobody planted"),
    )
    return Section(name, rows)


def explain_revocations(data: bytes) -> Section:
    """A list of revoked keys. Raises Malformed."""
    found = revocation_list.peek(data)
    rows = (
        Row("rlu_number", str(found.number), "rises with every list; a policy pins the least"),
        Row("iat", str(found.issued_at), "seconds since the epoch"),
    )
    return Section("Revocation list of instance keys", rows, tuple(map(_entry, found.entries)))


def _entry(entry: Revocation) -> Section:
    good = entry.last_good
    rows = (
        Row("reason", entry.reason, ""),
        Row("time", str(entry.time), "since when, in seconds since the epoch"),
        Row(
            "last_good",
            "absent" if good is None else f"{good.tree_size} entries, root {good.root.hex()}",
            "nothing of the key is believed" if good is None else "what is shown to lie under it is believed",
        ),
    )
    return Section(entry.ueid, rows)


def _head(data: bytes) -> str:
    head = cose.parse_head(data)
    return f"{head.tree_size} entries, root {head.root.hex()}"
