"""Following a log, against an operator who owns the signing key: every way to tell two stories has its own code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.log_operator import AT, Operator, known, statement
from rlu_attestation import cose
from rlu_attestation.log import state as states
from rlu_attestation.log.finding import FINDINGS
from rlu_attestation.log.follow import Report, follow
from rlu_attestation.log.state import State
from rlu_attestation.log.view import Seen, View

HOUR = 3600


def look(state: State | None, view: View, at: int = AT, max_age_s: int | None = None) -> Report:
    return follow(state, view, at, max_age_s)


def only(report: Report, code: str) -> None:
    assert [finding.code for finding in report.findings] == [code], report.findings


@settings(max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.booleans())
def test_an_honest_log_is_followed(steps: list[int], entries: bool) -> None:
    operator, state = Operator(), None
    for step in steps:
        operator.grow(step)
        operator.now += 1
        report = look(state, operator.view(state, entries=entries), operator.now)
        assert report.findings == ()
        state = report.state
        assert state is not None
        assert state.latest.tree_size == operator.tree.size
        assert states.parse(state.encode()) == state


def forked_at_the_same_size(o: Operator, s: State) -> View:
    return replace(o.fork(5).grow(3, "other").view(s), proof=None, head=o.fork(5).grow(3, "other").head())


def forked_and_grown(o: Operator, s: State) -> View:
    return o.fork(5).grow(9, "other").view(s)


def forked_under_an_empty_proof(o: Operator, s: State) -> View:
    return o.fork(5).grow(3, "other").view(s)


def shrunk(o: Operator, s: State) -> View:
    return o.fork(4).view(s)


def without_a_proof(o: Operator, s: State) -> View:
    return o.grow(1).view(s, proof=None, head=o.head())


def with_a_proof_of_another_size(o: Operator, s: State) -> View:
    return o.grow(1).view(s, proof=o.proof(7))


def with_garbage_for_a_proof(o: Operator, s: State) -> View:
    return o.grow(1).view(s, proof=b"garbage")


def with_nothing(o: Operator, s: State) -> View:
    return o.view(s, proof=None, head=None)


def with_another_signers_head(o: Operator, s: State) -> View:
    return o.view(s, proof=None, head=Operator().grow(9).head())


def with_a_garbage_signature(o: Operator, s: State) -> View:
    head = cose.parse_head(o.grow(1).head())
    return o.view(s, proof=None, head=cose.assemble_head(head.protected, head.root, bytes(63) + b"\x01"))


def with_a_head_for_another_log(o: Operator, s: State) -> View:
    return o.view(s, proof=None, head=o.grow(1).head(issuer=Operator().issuer))


def with_a_receipt_whose_entry_is_elsewhere_now(o: Operator, s: State) -> View:
    early = o.fork(4).seen(3)
    o.add(o.statements[3])  # the same leaf once more, at the end
    return o.view(s, seen=(replace(early, now=o.receipt(8)),))


def with_an_entry_missing(o: Operator, s: State) -> View:
    return o.grow(4).view(s, leaves=o.leaves(8)[32:])


def with_an_entry_rewritten(o: Operator, s: State) -> View:
    return o.grow(4).view(s, leaves=statement("rewritten") + o.leaves(9))


def with_entries_reordered(o: Operator, s: State) -> View:
    leaves = o.grow(4).leaves(8)
    return o.view(s, leaves=leaves[32:64] + leaves[:32] + leaves[64:])


def with_half_an_entry(o: Operator, s: State) -> View:
    return o.grow(1).view(s, leaves=o.leaves(8)[:31])


def with_the_clock_set_back(o: Operator, s: State) -> View:
    o.now -= 1
    return o.grow(1).view(s)


def from_the_future(o: Operator, s: State) -> View:
    o.now += 121
    return o.grow(1).view(s)


def with_the_starts_set_back(o: Operator, s: State) -> View:
    return o.view(s, claims=o.claims(start_count=0))


def of_another_instance(o: Operator, s: State) -> View:
    return Operator().view(None)


def of_another_instance_with_another_past(o: Operator, s: State) -> View:
    new = Operator()
    return new.view(claims=new.claims(predecessor=Operator().grow(9).final()))


def of_a_new_instance_with_a_shorter_past(o: Operator, s: State) -> View:
    new = Operator()
    return new.view(claims=new.claims(predecessor=o.fork(4).final()))


def of_a_new_instance_with_a_rewritten_past(o: Operator, s: State) -> View:
    new, other = Operator(), o.fork(5).grow(3, "other")
    return new.view(claims=new.claims(predecessor=other.final()))


def of_a_new_instance_without_a_proof(o: Operator, s: State) -> View:
    new = Operator()
    return new.view(claims=new.claims(predecessor=o.grow(1).final()))


def of_a_new_instance_with_a_proof_of_another_end(o: Operator, s: State) -> View:
    new, other = Operator(), o.fork(5).grow(9, "other")
    return new.view(claims=new.claims(predecessor=other.final()), handover=o.grow(6).proof(8))


def of_a_new_instance_with_a_forged_past(o: Operator, s: State) -> View:
    new, forger = Operator(), Operator().grow(9)
    named = replace(o.final(), head=forger.head(issuer=o.issuer))
    return new.view(claims=new.claims(predecessor=named))


def with_a_receipt_from_another_tree(o: Operator, s: State) -> View:
    return o.view(s, seen=(o.fork(5).grow(3, "other").seen(6),))


def with_a_receipt_whose_entry_is_gone(o: Operator, s: State) -> View:
    other = o.fork(5).grow(2, "other")
    return o.view(s, seen=(other.seen(6, o),))


def with_a_receipt_that_is_not_shown(o: Operator, s: State) -> View:
    seen = o.seen(3)
    return o.grow(1).view(s, seen=(Seen(seen.statement, seen.receipt, None),))


@pytest.mark.parametrize(
    ("code", "show"),
    [
        ("log.fork", forked_at_the_same_size),
        ("log.fork", forked_and_grown),
        ("log.fork", forked_under_an_empty_proof),
        ("log.shrunk", shrunk),
        ("log.unproven", without_a_proof),
        ("log.unproven", with_a_proof_of_another_size),
        ("log.unproven", with_garbage_for_a_proof),
        ("log.unproven", with_nothing),
        ("log.head.invalid", with_another_signers_head),
        ("log.head.invalid", with_a_garbage_signature),
        ("log.head.invalid", with_a_head_for_another_log),
        ("log.rewritten", with_a_receipt_whose_entry_is_elsewhere_now),
        ("log.gap", with_an_entry_missing),
        ("log.gap", with_half_an_entry),
        ("log.rewritten", with_an_entry_rewritten),
        ("log.rewritten", with_entries_reordered),
        ("log.clock", with_the_clock_set_back),
        ("log.clock", from_the_future),
        ("log.start_counter", with_the_starts_set_back),
        ("log.predecessor", of_another_instance),
        ("log.predecessor", of_another_instance_with_another_past),
        ("log.predecessor", of_a_new_instance_with_a_forged_past),
        ("log.shrunk", of_a_new_instance_with_a_shorter_past),
        ("log.fork", of_a_new_instance_with_a_rewritten_past),
        ("log.fork", of_a_new_instance_with_a_proof_of_another_end),
        ("log.unproven", of_a_new_instance_without_a_proof),
        ("log.fork", with_a_receipt_from_another_tree),
        ("log.rewritten", with_a_receipt_whose_entry_is_gone),
        ("log.rewritten", with_a_receipt_that_is_not_shown),
    ],
)
def test_every_other_story_is_found_and_not_followed(
    code: str, show: Callable[[Operator, State], View]
) -> None:
    operator = Operator().grow(8)
    state = known(operator, entries=True)
    report = look(state, show(operator, state))
    only(report, code)
    assert report.state is state, "the next look must find it again"
    assert set(FINDINGS) >= {code}


def test_a_first_look_takes_the_head_but_not_any_head() -> None:
    operator = Operator().grow(3)
    assert known(operator).latest.tree_size == 3
    only(look(None, operator.view(head=Operator().grow(3).head())), "log.head.invalid")
    only(look(None, operator.view(head=None)), "log.unproven")
    only(look(None, operator.view(head=operator.head(iat=AT + HOUR))), "log.clock")


def test_a_log_that_stands_still() -> None:
    operator = Operator().grow(8)
    state = known(operator)
    assert look(state, operator.view(state), AT + HOUR, HOUR).findings == ()
    report = look(state, operator.view(state), AT + HOUR + 1, HOUR)
    only(report, "log.stalled")
    assert look(state, operator.view(state), AT + 9 * HOUR).findings == ()


def test_a_log_that_hides_what_was_signed_is_stalled() -> None:
    operator = Operator().grow(8)
    state = known(operator)
    ahead = operator.fork(8).grow(1)
    report = look(state, operator.view(state, seen=(ahead.seen(8, operator),)))
    only(report, "log.stalled")
    assert report.state is not None, "a log that is late may go on"


def test_receipts_of_others_say_nothing_about_this_log() -> None:
    operator = Operator().grow(8)
    state, stranger = known(operator), Operator().grow(9)
    forged = Seen(statement("forged"), operator.receipt(3), None)
    assert look(state, operator.view(state, seen=(stranger.seen(8), forged))).findings == ()


def test_a_rotation_that_was_proved_is_followed() -> None:
    old = Operator().grow(8)
    state = known(old)
    old.grow(5)
    new = Operator().grow(2)
    view = new.view(claims=new.claims(predecessor=old.final()), handover=old.proof(8))
    report = look(state, view)
    assert report.findings == ()
    assert report.state is not None
    assert report.state.issuer == new.issuer
    assert [past.issuer for past in report.state.past] == [old.issuer]
    named = new.claims(predecessor=old.final())
    again = look(report.state, new.grow(1).view(report.state, claims=named))
    assert again.findings == ()
    assert again.state is not None
    assert states.parse(again.state.encode()) == again.state


def rotated() -> tuple[Operator, Operator, State]:
    """An old log that still goes on, a new one, and an observer who has moved to the new."""
    old = Operator().grow(8)
    state = known(old)
    old.grow(5)
    new = Operator().grow(2)
    view = new.view(claims=new.claims(predecessor=old.final()), handover=old.proof(8))
    moved = look(state, view).state
    assert moved is not None
    return old, new, moved


def test_a_log_that_goes_on_after_its_key_stepped_down_is_followed_to_its_end() -> None:
    old, new, state = rotated()
    old.grow(4)
    named = new.claims(predecessor=old.final())
    report = look(state, new.view(state, claims=named, ending=old.proof(13)))
    assert report.findings == ()
    assert report.state is not None
    assert report.state.former is not None
    assert report.state.former.latest.tree_size == 17
    assert states.parse(report.state.encode()) == report.state


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("forked", "log.fork"),
        ("unproven", "log.unproven"),
        ("shrunk", "log.shrunk"),
        ("gone", "log.predecessor"),
        ("another", "log.predecessor"),
    ],
)
def test_the_end_of_a_former_log_that_does_not_extend_what_was_seen(ending: str, code: str) -> None:
    old, new, state = rotated()
    other = old.fork(9).grow(8, "other")
    views = {
        "forked": lambda: (other.final(), other.proof(13)),
        "unproven": lambda: (old.grow(4).final(), None),
        "shrunk": lambda: (old.fork(9).final(), None),
        "gone": lambda: (None, None),
        "another": lambda: (Operator().grow(20).final(), None),
    }
    predecessor, proof = views[ending]()
    view = new.view(state, claims=new.claims(predecessor=predecessor), ending=proof)
    report = look(state, view)
    only(report, code)
    assert report.state == state


def test_a_former_log_is_followed_while_it_still_grows() -> None:
    old, new, state = rotated()
    stepped_down = new.claims(predecessor=old.final())
    seen = [13]
    for count in (4, 0, 3):
        assert state.former is not None
        known = state.former.latest.tree_size
        old.grow(count)
        old.now += 1
        grown = (old.head(), old.tree.consistency_path(known, old.tree.size)) if count else None
        standing = old.tree.consistency_path(13, known)
        report = look(state, new.view(state, claims=stepped_down, standing=standing, growth=grown), old.now)
        assert report.findings == ()
        assert report.state is not None
        state = report.state
        assert state.former is not None
        seen.append(state.former.latest.tree_size)
    assert seen == [13, 17, 17, 20]
    assert states.parse(state.encode()) == state
    # Its last session has ended: the statement names the final head, which extends what was seen.
    old.grow(1)
    final = new.claims(predecessor=old.final())
    report = look(state, new.view(state, claims=final, ending=old.proof(20)), old.now)
    assert report.findings == ()
    assert report.state is not None
    assert report.state.former is not None
    assert report.state.former.latest.tree_size == 21


def test_a_former_log_that_grew_already_when_its_key_was_seen_to_have_stepped_down() -> None:
    old = Operator().grow(8)
    state = known(old)
    old.grow(5)
    named, proof = old.final(), old.proof(8)
    old.grow(2)
    new = Operator().grow(2)
    growth = (old.head(), old.tree.consistency_path(13, 15))
    report = look(state, new.view(claims=new.claims(predecessor=named), handover=proof, growth=growth))
    assert report.findings == ()
    assert report.state is not None
    assert report.state.former is not None
    assert report.state.former.latest.tree_size == 15


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("forked", "log.fork"),
        ("unproven", "log.unproven"),
        ("garbled", "log.unproven"),
        ("unsigned", "log.head.invalid"),
        ("another's", "log.head.invalid"),
        ("earlier", "log.clock"),
        ("smaller and forked", "log.shrunk"),
    ],
)
def test_growth_of_a_former_log_that_does_not_extend_what_was_seen(shown: str, code: str) -> None:
    old, new, state = rotated()
    claims = new.claims(predecessor=old.final())
    fork, stranger = old.fork(9).grow(8, "other"), Operator().grow(17)
    old.grow(4)
    path = old.tree.consistency_path(13, 17)
    growth = {
        "forked": (fork.head(), fork.tree.consistency_path(13, 17)),
        "unproven": (old.head(), None),
        "garbled": (old.head(), path[:-1]),
        "unsigned": (stranger.head(issuer=old.issuer, kid=old.kid), path),
        "another's": (stranger.head(), path),
        "earlier": (old.head(iat=AT - 1), path),
        "smaller and forked": (old.fork(9).grow(3, "other").head(), path),
    }
    report = look(state, new.view(state, claims=claims, growth=growth[shown]))
    only(report, code)
    assert report.state == state


@pytest.mark.parametrize(
    ("standing", "code"), [("none", "log.shrunk"), ("forked", "log.fork"), ("garbled", "log.unproven")]
)
def test_a_head_that_is_named_and_is_not_one_of_the_former_log_that_was_seen(
    standing: str, code: str
) -> None:
    old, new, state = rotated()
    stepped_down, other = old.final(), old.fork(9).grow(4, "other").final()
    old.grow(4)
    growth = (old.head(), old.tree.consistency_path(13, 17))
    grown = look(state, new.view(state, claims=new.claims(predecessor=stepped_down), growth=growth)).state
    assert grown is not None
    path = old.tree.consistency_path(13, 17)
    named, given = {
        "none": (stepped_down, None),
        "forked": (other, path),
        "garbled": (stepped_down, path[:-1]),
    }[standing]
    report = look(grown, new.view(grown, claims=new.claims(predecessor=named), standing=given))
    only(report, code)
    assert report.state == grown


def test_evidence_convinces_a_third_party() -> None:
    operator = Operator().grow(8)
    state = known(operator)
    other = operator.fork(5).grow(3, "other")
    (finding,) = look(state, other.view(state, proof=None, head=other.head())).findings
    first, second = map(cose.parse_head, finding.evidence)
    for head in (first, second):
        head.verify(operator.key.public_key())
    assert first.tree_size == second.tree_size
    assert first.root != second.root


def test_every_finding_is_documented() -> None:
    text = (Path(__file__).resolve().parents[3] / "attestation" / "DESIGN.md").read_text("utf-8")
    assert [code for code in FINDINGS if f"`{code}`" not in text] == []
