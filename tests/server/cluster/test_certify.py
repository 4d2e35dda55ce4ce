"""Whether a node keeps its label: what it had, and what was found."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.kubernetes import merged
from rlu_server.cluster import certify
from rlu_server.cluster.certify import Names
from rlu_server.cluster.record import label
from rlu_server.preflight.findings import Finding, error, ok, warning

NAMES = Names()
GOOD = [ok("gpu.present", "8"), warning("gpu.persistence", "off", "on")]
BAD = [*GOOD, error("kernel.swap", "on", "off"), error("gpu.driver", "no", "yes")]
OTHER = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]


def node(**changes: Any) -> dict[str, Any]:
    return merged(
        {"metadata": {"name": "n", "resourceVersion": "7", "labels": {"zone": "a"}}, "spec": {}}, changes
    )


def after(
    found: dict[str, Any], findings: list[Finding], record: str = "one", now: int = 1000, **how: Any
) -> Any:
    """Decision, and the node as it is then."""
    decision = certify.decide(found, record, findings, NAMES, now, **how)
    return decision, merged(found, decision.patch)


def test_a_node_that_passes_is_certified_by_the_digest_of_its_record() -> None:
    decision, then = after(node(), GOOD)
    assert (decision.event, decision.codes, decision.certified) == ("node_certified", (), True)
    assert then["metadata"]["labels"] == {"zone": "a", "rlu-certified": label("one")}
    assert then["metadata"]["annotations"] == {"rlu-certified-record": "one", "rlu-certified-seen": "1000"}


@pytest.mark.parametrize("then_good", [False, True])
def test_a_node_that_fails_loses_the_label_and_not_the_record(then_good: bool) -> None:
    _, certified = after(node(), GOOD)
    decision, failed = after(certified, BAD)
    assert (decision.event, decision.codes) == ("node_failed", ("gpu.driver", "kernel.swap"))
    assert failed["metadata"]["labels"] == {"zone": "a"}
    assert failed["metadata"]["annotations"]["rlu-certified-record"] == "one"
    if then_good:
        decision, again = after(failed, GOOD)
        assert decision.certified
        assert again["metadata"]["labels"]["rlu-certified"] == label("one")


def test_a_node_that_never_passed_has_nothing_but_that_it_was_seen() -> None:
    _, then = after(node(), BAD)
    assert then["metadata"]["labels"] == {"zone": "a"}
    assert then["metadata"]["annotations"] == {"rlu-certified-seen": "1000"}


def test_a_node_that_drifted_is_withheld_until_somebody_accepts_it() -> None:
    _, certified = after(node(), GOOD)
    decision, withheld = after(certified, GOOD, "two")
    assert (decision.event, decision.codes) == ("node_withheld", ("node.changed",))
    assert "rlu-certified" not in withheld["metadata"]["labels"]
    decision, still = after(withheld, GOOD, "two", now=2000)
    assert decision.event == "node_withheld"
    del still["metadata"]["annotations"]["rlu-certified-record"]
    decision, accepted = after(still, GOOD, "two")
    assert decision.certified
    assert accepted["metadata"]["labels"]["rlu-certified"] == label("two")


def test_a_label_of_somebody_else_is_made_true() -> None:
    forged = node(metadata={"labels": {"rlu-certified": "yes"}})
    assert after(forged, BAD)[1]["metadata"]["labels"] == {"zone": "a"}
    assert after(forged, GOOD)[1]["metadata"]["labels"]["rlu-certified"] == label("one")


def test_what_the_operator_waived_does_not_count() -> None:
    assert not after(node(), BAD, ignored=frozenset({"kernel.swap"}))[0].certified
    assert after(node(), BAD, ignored=frozenset({"kernel.swap", "gpu.driver"}))[0].certified


def test_nothing_is_written_where_nothing_changed_until_it_is_time_to_be_seen() -> None:
    _, certified = after(node(), GOOD)
    assert after(certified, GOOD, now=1299)[0].patch == {}
    assert after(certified, GOOD, now=1300)[0].patch == {
        "metadata": {"annotations": {"rlu-certified-seen": "1300"}}
    }
    # A clock that was set back does not silence a node until it is where it was.
    assert after(certified, GOOD, now=999)[0].patch


def test_the_taint_is_there_while_the_label_is_not_and_others_stay() -> None:
    taint = {"key": "rlu-certified-missing", "effect": "NoExecute"}
    decision, tainted = after(node(spec={"taints": OTHER}), BAD, taint="NoExecute")
    assert tainted["spec"]["taints"] == [*OTHER, taint]
    # The whole list is replaced, so only if nobody else changed it.
    assert decision.patch["metadata"]["resourceVersion"] == "7"
    assert after(tainted, BAD, taint="NoExecute", now=1001)[0].patch == {}
    _, softer = after(tainted, BAD, taint="NoSchedule")
    assert softer["spec"]["taints"] == [*OTHER, {**taint, "effect": "NoSchedule"}]
    _, certified = after(tainted, GOOD, taint="NoExecute")
    assert certified["spec"]["taints"] == OTHER
    _, alone = after(merged(tainted, {"spec": {"taints": [taint]}}), GOOD)
    assert "taints" not in alone["spec"]


def test_stale_are_those_with_the_label_whose_labeller_is_silent() -> None:
    def labelled(seen: str | None) -> dict[str, Any]:
        return node(metadata={"labels": {"rlu-certified": "x"}, "annotations": {"rlu-certified-seen": seen}})

    fresh, late, never, odd = labelled("900"), labelled("399"), labelled(None), labelled("-5")
    bare = node(metadata={"annotations": {"rlu-certified-seen": "1"}})
    found = certify.stale([fresh, late, never, odd, bare], NAMES, 1000, 600)
    assert [id(one) for one in found] == [id(late), id(never), id(odd)]
    assert merged(late, certify.withdraw(late, NAMES))["metadata"]["labels"] == {"zone": "a"}


def test_forgetting_leaves_nothing_of_ours() -> None:
    before = node(spec={"taints": OTHER}, metadata={"annotations": {"team": "x"}})
    _, tainted = after(before, BAD, taint="NoSchedule")
    _, certified = after(before, GOOD)
    for found in (tainted, certified):
        assert merged(found, certify.forget(found, NAMES)) == before
    assert certify.forget(before, NAMES) == {}


def test_another_key_names_everything_after_it() -> None:
    names = Names("example.com/ready")
    patch = certify.decide(node(), "one", GOOD, names, 5).patch
    assert set(patch["metadata"]["labels"]) == {"example.com/ready"}
    assert set(patch["metadata"]["annotations"]) == {"example.com/ready-record", "example.com/ready-seen"}
