"""What a verifier finds in boundary reports: figures of honest ones, and every way of getting one wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fakes import boundary as fake
from fakes.boundary import AMERICA, AT, BEGIN, END, EUROPE, HOUR, KEY, Instance, day, examined, logs, report
from rlu_attestation import signed_json
from rlu_attestation.boundary.check import CODES, Examined, check
from rlu_attestation.boundary.figures import TITLES, asserted, compute
from rlu_attestation.boundary.report import Counted, Figure, Report
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.explain import explain
from rlu_attestation.instance import Predecessor


def codes(found: Examined) -> set[str]:
    return {point.code for point in (*found.false, *found.open)}


def values(figures: tuple[Figure, ...]) -> dict[str, int]:
    """Sums of figures of one name, of which there is one without parts, or several with them."""
    found: dict[str, int] = {}
    for figure in figures:
        name = figure.name + "".join(
            f" {key}={value}" for key, value in figure.of if key in ("region", "status", "code")
        )
        found[name] = found.get(name, 0) + figure.value
    return found


def test_an_honest_report() -> None:
    made = report(day())
    found = examined(made)
    assert (found.result, found.exit_code, codes(found)) == ("verified", 0, set())
    assert found.covered == (BEGIN - HOUR, END - 1)
    given_ = values(made.figures)
    assert given_["sessions"] == 2 + 0 + 2 + 1 + 2
    assert (given_["sessions region=eu-central-1"], given_["sessions region=us-east-1"]) == (4, 3)
    assert (given_["receipts status=complete"], given_["receipts status=aborted"]) == (14, 7)
    assert (given_["entries"], given_["closes"]) == (35, 7)
    assert (given_["sessions.refused code=drift"], given_["drift code=policy.pcrs"]) == (3, 1)
    assert (given_["rotations"], given_["starts"], given_["policy.changes"]) == (1, 2, 1)
    assert (given_["statements.renewed"], given_["statements.asked"]) == (60, 5)
    assert {figure.name: figure.source for figure in made.figures}["entries"] == "proven"
    where = next(figure for figure in made.figures if figure.name == "sessions" and not figure.of)
    assert where.tallies == ((0, 2, 2), (0, 4, 4), (1, 1, 2))


def test_periods_that_follow_each_other_share_nothing_and_leave_nothing_out() -> None:
    seen = logs(day())
    whole = values(compute(seen, BEGIN - 2 * HOUR, END + 1))
    for middle in (BEGIN, BEGIN + 1, BEGIN + 2 * HOUR, END - 1, END):
        first, second = (
            values(compute(seen, *part)) for part in ((BEGIN - 2 * HOUR, middle), (middle, END + 1))
        )
        assert {name: first.get(name, 0) + second.get(name, 0) for name in whole} == whole


def test_a_period_in_which_nothing_happened() -> None:
    one = Instance("idle")
    one.tally(BEGIN - HOUR, {EUROPE: 4})
    one.tally(END, {EUROPE: 1})
    made = report([one])
    found = examined(made)
    assert (found.result, found.covered) == ("verified", (None, None))
    assert {figure.value for figure in made.figures if figure.source != "asserted"} == {0}
    assert values(made.figures)["sessions"] == 0


def test_every_figure_that_is_wrong_is_found() -> None:
    right = report(day())
    for place, figure in enumerate(right.figures):
        others = (*right.figures[:place], *right.figures[place + 1 :])
        if figure.source == "asserted":
            continue
        wrong = [
            replace(figure, value=figure.value + 1),
            replace(figure, tallies=((0, 1, 1),)),
            replace(figure, of=(("region", "nowhere"),)),
            replace(figure, source="asserted"),
            replace(figure, source="proven" if figure.source == "logged" else "logged"),
        ]
        for changed in wrong:
            assert codes(examined(replace(right, figures=(*others, changed)))) == {"boundary.figures"}, (
                changed
            )
        assert codes(examined(replace(right, figures=others))) == {"boundary.figures"}
        assert codes(examined(replace(right, figures=(*others, figure, figure)))) == {"boundary.figures"}


@pytest.mark.parametrize(
    "figure",
    [
        Figure("egress.sent", (), 5, "logged"),
        Figure("egress.sent", (), 5, "proven"),
        asserted("sessions", 5, region="eu-central-1"),
        asserted("prompts", 5),
        Figure("sessions", (("region", "mars"),), 0, "logged"),
    ],
)
def test_a_figure_that_nothing_gives(figure: Figure) -> None:
    right = report(day())
    assert codes(examined(replace(right, figures=(*right.figures, figure)))) == {"boundary.figures"}


def _lied(change: Callable[[list[Instance]], None]) -> Callable[[], Report]:
    def make() -> Report:
        instances = day()
        change(instances)
        return report(instances)

    return make


def _without(instance: int, tallies: slice) -> Callable[[], Report]:
    """Some tallies are left out, and the figures are made to fit."""

    def make() -> Report:
        instances = day()
        del instances[instance].tallies[tallies]
        return report(instances)

    return make


def _two_logs_one_key(instances: list[Instance]) -> None:
    tally, _ = instances[0].tallies[1]
    less = replace(tally, sessions=1, receipts={**fake.NOBODY, "complete": 1}, closes=8, profiles=())
    instances[0].tallies[1] = (less, less.encode())


def _path_of_another(made: Report) -> Report:
    first, *rest = made.instances
    counted = (Counted(first.tallies[0].statement, first.tallies[1].path), *first.tallies[1:])
    return replace(made, instances=(replace(first, tallies=counted), *rest))


def _head_of_another(made: Report) -> Report:
    first, second = made.instances
    return replace(made, instances=(replace(first, head=second.head), second))


def _head_not_signed(made: Report) -> Report:
    first, *rest = made.instances
    return replace(
        made, instances=(replace(first, head=first.head[:-1] + bytes([first.head[-1] ^ 1])), *rest)
    )


def _no_extension(made: Report) -> Report:
    first, *rest = made.instances
    return replace(made, instances=(replace(first, extends=(bytes(32),)), *rest))


@pytest.mark.parametrize(
    ("code", "make"),
    [
        ("boundary.tallies", _without(0, slice(0, 1))),  # as if the log began with number 2
        ("boundary.tallies", _without(0, slice(2, 3))),
        ("boundary.tallies", _without(1, slice(0, 1))),
        ("boundary.tally", _lied(_two_logs_one_key)),
        ("boundary.tally", lambda: _path_of_another(report(day()))),
        ("boundary.head", lambda: _head_of_another(report(day()))),
        ("boundary.head", lambda: _head_not_signed(report(day()))),
        ("boundary.instances", lambda: _no_extension(report(day()))),
        ("boundary.instances", lambda: report(day()[::-1])),
        ("boundary.instances", lambda: report(day()[1:])),
        ("boundary.instances", lambda: report(day()[:1])),
        ("boundary.time", lambda: replace(report(day()), issued_at=AT + 61)),
    ],
)
def test_what_is_false(code: str, make: Callable[[], Report]) -> None:
    found = examined(make())
    assert (found.result, found.exit_code) == ("rejected", 10)
    assert code in {point.code for point in found.false}


def test_a_head_from_the_future() -> None:
    instances = day()
    instances[1].sign(AT + 61)
    assert codes(examined(report(instances))) == {"boundary.time"}


def test_a_predecessor_that_is_another() -> None:
    instances = day()
    tally, _ = instances[1].tallies[-1]
    other = Instance("other")
    other.tally(BEGIN, {EUROPE: 1})
    instances[1].named = Predecessor(other.issuer, other.head)
    instances[1].tally(END + HOUR, {}, start_count=9, policy=b"q" * 32)
    assert tally.predecessor is not None
    assert codes(examined(report(instances))) == {"boundary.instances"}


@pytest.mark.parametrize("cut", [1, 2])
def test_what_the_end_does_not_show_is_open(cut: int) -> None:
    """The last tallies are left out under the same head: their entries are there, and counted by nothing."""
    found = examined(_without(1, slice(3 - cut, 3))())
    assert (found.result, found.exit_code) == ("verified_except_open", 11)
    assert codes(found) == {"boundary.open.end", "boundary.open.uncounted"}
    uncounted = next(figure for figure in found.report.figures if figure.name == "entries.uncounted")
    assert (uncounted.value, uncounted.source) == (21 if cut == 1 else 32, "proven")


def test_an_older_head_is_an_end_that_comes_too_early() -> None:
    instances = day()
    new = instances[1]
    for _ in range(2):
        tally, _ = new.tallies.pop()
        del new.leaves[tally.first :]
    new.sign(END + HOUR)
    assert codes(examined(report(instances))) == {"boundary.open.end"}


def test_keys_that_nobody_has_verified_are_open() -> None:
    instances = day()
    found = examined(report(instances), instances[0].issuer)
    assert (found.exit_code, [point.code for point in found.open]) == (11, ["boundary.open.instance"])
    assert instances[0].issuer in found.open[0].detail


def test_a_log_from_before_there_were_tallies() -> None:
    old = Instance("ancient")
    old.leaves = [bytes(32), bytes(32)]
    old.sign(BEGIN + HOUR)
    new = Instance("first to count", old)
    new.tally(BEGIN + 2 * HOUR, {AMERICA: 1})
    new.tally(END, {})
    found = examined(report([old, new]))
    assert (found.result, codes(found)) == ("verified_except_open", {"boundary.open.uncounted"})


def test_another_signer_and_another_document() -> None:
    text = report(day()).sign(KEY)
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
    refusals = []
    for sample, key in ((text, other), (text[:-9] + "AAAAAAAAA", KEY), (text[:-1], KEY), ("", KEY)):
        with pytest.raises(RluError) as refusal:
            Report.verify(sample, [key.public_key()])
        refusals.append(refusal.value.code)
    assert refusals == ["boundary.key", "boundary.signature", "boundary.encoding", "boundary.encoding"]
    with pytest.raises(Malformed, match=r"boundary\.encoding"):
        Report.verify(signed_json.sign("rlu-licence+jwt", {"profile": "x"}, KEY), [KEY.public_key()])


@pytest.mark.parametrize(
    "change",
    [
        {"to": BEGIN},
        {"instances": []},
        {"instances": [{}]},
        {"prompt": "secret"},
        {"profile": "tag:rlu.internal,2026:licence#1"},
        {"figures": [{}]},
        {
            "figures": [
                {"name": "sessions", "of": {"region": 1}, "source": "logged", "tallies": [], "value": 1}
            ]
        },
        {"figures": [{"name": "sessions", "of": {}, "source": "hardware", "tallies": [], "value": 1}]},
        {"figures": [{"name": "sessions", "of": {}, "source": "logged", "tallies": [[0, 1]], "value": 1}]},
    ],
)
def test_claims_that_are_none(change: dict[str, object]) -> None:
    """Signed, and still no report."""
    made = report(day())
    payload = {
        "figures": [figure.to_json() for figure in made.figures],
        "from": made.begin,
        "iat": made.issued_at,
        "instances": [one.to_json() for one in made.instances],
        "profile": "tag:rlu.internal,2026:boundary-report#1",
        "to": made.end,
    }
    assert (
        Report.verify(signed_json.sign("rlu-boundary-report+jwt", payload, KEY), [KEY.public_key()]) == made
    )
    with pytest.raises(Malformed, match=r"boundary\.claims"):
        Report.verify(
            signed_json.sign("rlu-boundary-report+jwt", {**payload, **change}, KEY), [KEY.public_key()]
        )


@given(st.binary(max_size=64))
def test_bytes_that_are_no_tally_and_no_head(data: bytes) -> None:
    made = report(day())
    first, *rest = made.instances
    for changed in (replace(first, head=data), replace(first, tallies=(Counted(data, ()),))):
        with pytest.raises(Malformed, match=r"boundary\.claims"):
            check(replace(made, instances=(changed, *rest)), (), AT)


def test_every_code_and_every_figure_has_words() -> None:
    assert all(text for text in itertools.chain(CODES.values(), TITLES.values()))
    assert {figure.name for figure in report(day()).figures} <= set(TITLES)


def test_a_report_says_something_of_what_left() -> None:
    right = report(day())
    silent = tuple(figure for figure in right.figures if figure.name != "egress.journal")
    assert codes(examined(replace(right, figures=silent))) == {"boundary.figures"}


def test_it_can_be_looked_at() -> None:
    made = report(day())
    section = explain(made.sign(KEY).encode() + b"\n")
    assert section.title.startswith("Boundary report")
    assert len(section.parts[0].rows) == len(made.figures)
    assert [part.title for part in section.parts[1:]] == [log.issuer for log in logs(day())]
    assert any("asserted" in row.meaning for row in section.parts[0].rows)
    odd = replace(
        made, instances=(replace(made.instances[0], head=b"x"),), figures=(Figure("other", (), 1, "logged"),)
    )
    section = explain(odd.sign(KEY).encode())
    assert (section.parts[0].rows[0].name, section.parts[1].rows[0].name) == ("other", "unreadable")


def test_two_histories_of_one_key() -> None:
    """The next instance names a head of the same size, signed by the same key, over other entries."""
    old, fork = Instance("forked"), Instance("forked")
    old.tally(BEGIN - HOUR, {EUROPE: 1})
    fork.tally(BEGIN - HOUR, {EUROPE: 1}, drift={"policy.pcrs": 1})
    new = Instance("after the fork", fork)
    new.tally(BEGIN, {AMERICA: 1})
    new.tally(END, {})
    assert codes(examined(report([fork, new]))) == set()
    assert codes(examined(report([old, new]))) == {"boundary.instances"}


def test_a_tally_that_begins_at_another_time() -> None:
    one = Instance("clock")
    one.tally(BEGIN - HOUR, {EUROPE: 1})
    one.tally(BEGIN, {EUROPE: 1}, since=BEGIN - 2 * HOUR)
    one.tally(END, {})
    assert codes(examined(report([one]))) == {"boundary.tallies"}


def test_a_tally_that_names_another_instance() -> None:
    one = Instance("guest")
    one.tally(BEGIN - HOUR, {EUROPE: 1})
    one.tally(BEGIN, {EUROPE: 1}, issuer="urn:rlu:instance:other")
    one.tally(END, {})
    assert codes(examined(report([one]))) == {"boundary.tally"}


def test_only_the_first_instance_may_begin_in_its_middle() -> None:
    old = Instance("long gone")
    old.tally(BEGIN - 9 * HOUR, {EUROPE: 1})
    new = Instance("since then", old)
    for at in (BEGIN - 2 * HOUR, BEGIN - HOUR, BEGIN, END):
        new.tally(at, {EUROPE: 1})
    assert codes(examined(report([old, new]))) == set()
    del new.tallies[0]
    assert codes(examined(report([new]))) == set()
    assert codes(examined(report([old, new]))) == {"boundary.tallies"}
