"""The receipts that are written out are those of the formats, whatever a gateway says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.encoding import b64u
from rlu_attestation.statements import Content, Receipt, Usage
from rlu_server.attestor import composition, messages
from rlu_server.attestor.tiles import Meta, bucket

ISSUER = "urn:rlu:instance:" + "A" * 44
SIZES = st.integers(0, 2**53 - 1)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
DIGESTS = st.binary(min_size=32, max_size=32)
COMMITMENTS = st.builds(messages.Commitment, bytes=SIZES, commitment=DIGESTS)
USAGES = st.builds(
    messages.Usage,
    input_tokens=SIZES,
    output_tokens=SIZES,
    cached_input_tokens=SIZES,
)
# Wider than what `messages` lets through: nothing here relies on it.
REPORTS = st.builds(
    messages.RecordReceipt,
    id=st.just(1),
    session=st.binary(min_size=16, max_size=16).map(b64u),
    seq=SIZES,
    route=TEXT,
    model=TEXT,
    status=st.sampled_from(["complete", "partial", "aborted", "failed"]),
    http_status=st.integers(0, 999),
    request=COMMITMENTS,
    forwarded=st.none() | COMMITMENTS,
    rewritten=st.lists(TEXT, max_size=3),
    response=COMMITMENTS,
    usage=st.none() | USAGES,
    reason=st.none() | TEXT,
)


def content(commitment: messages.Commitment | None) -> Content | None:
    return None if commitment is None else Content(commitment.bytes, commitment.commitment)


@given(REPORTS, st.integers(0, 2**40 - 1), st.binary(min_size=16, max_size=16), DIGESTS)
def test_a_receipt_says_what_was_reported_in_the_bytes_of_the_formats(
    report: messages.RecordReceipt, now: int, blind: bytes, leaf: bytes
) -> None:
    usage = report.usage
    expected = Receipt(
        issuer=ISSUER,
        session=report.session,
        session_leaf=leaf,
        seq=report.seq,
        issued_at=now,
        route=report.route,
        model=report.model,
        status=report.status,
        http_status=report.http_status,
        request=content(report.request),
        forwarded=content(report.forwarded),
        rewritten=tuple(report.rewritten),
        response=content(report.response),
        usage=None
        if usage is None
        else Usage(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens),
        reason=report.reason,
        blind=blind,
    )
    made = composition.receipt(composition.Stamp(ISSUER, now, blind), report, leaf)
    assert made.statement == expected.encode()
    counts = (
        (0, 0, 0) if usage is None else (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)
    )
    buckets = (bucket(counts[0]), bucket(counts[1]), bucket(counts[2]))
    assert made.meta == Meta("receipt", now, report.status, buckets)
