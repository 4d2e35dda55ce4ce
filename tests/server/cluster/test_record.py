"""The record of a node: the same for the same hardware, another for other hardware, and within what a label holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.node import FakeNode
from rlu_server import preflight
from rlu_server.cluster.record import label, record
from rlu_server.preflight.facts import Device, Gpu, Node

CARD = Gpu(name="NVIDIA H200", memory_mib=143771, vbios="96.00.A5.00.01", ecc=True, performance=0, links=18)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    seen = preflight.look(
        FakeNode(tmp_path).root, landlock=7, is_root=False, library="libnvidia-ml-absent.so.1"
    )
    return replace(seen, nvidia=replace(seen.nvidia, driver="570.1", mode="on", gpus=(CARD,) * 8))


def made(node: Node, profile: str = "h200x8", endorsement: str = "ab") -> str:
    return record(node, preflight.judge(node), profile, endorsement)


def with_card(node: Node, **changes: Any) -> Node:
    return replace(node, nvidia=replace(node.nvidia, gpus=(*node.nvidia.gpus[1:], replace(CARD, **changes))))


def test_what_changes_by_itself_or_by_an_update_is_not_in_it(node: Node) -> None:
    same = [
        with_card(node, performance=8, uncorrected=0),
        replace(node, nvidia=replace(node.nvidia, driver="575.2")),
        replace(node, kernel=replace(node.kernel, landlock=8, release=(6, 18))),
        replace(node, host=replace(node.host, available=1)),
    ]
    assert {made(one) for one in same} == {made(node)}


def test_other_hardware_and_a_weaker_lock_make_another(node: Node) -> None:
    others = [
        with_card(node, vbios="96.00.A5.00.02"),
        with_card(node, name="NVIDIA H100"),
        with_card(node, memory_mib=1),
        replace(node, nvidia=replace(node.nvidia, mode="off")),
        replace(node, nvidia=replace(node.nvidia, gpus=(CARD,) * 7)),
        replace(node, trust=replace(node.trust, tpm=Device())),
        replace(node, trust=replace(node.trust, sev_snp=Device(True, True), tsm=Device(True, True))),
        replace(node, kernel=replace(node.kernel, landlock=2)),
        replace(node, kernel=replace(node.kernel, swap=replace(node.kernel.swap, disk=1))),
    ]
    texts = [made(node), *map(made, others), made(node, endorsement="cd"), made(node, profile="h100x8")]
    assert len(set(texts)) == len(texts)
    assert len({label(text) for text in texts}) == len(texts)


def test_the_label_is_one_that_kubernetes_takes() -> None:
    # printf 'rlu/node/v1{}' | openssl dgst -sha256 -binary | base32
    assert label("{}") == "ckgsvuywvpmyyx6o2vh6tmnlzakc7xg4ux35cvkk6dduraiwnd3q"
    for text in ("{}", "", "x" * 1000):
        assert re.fullmatch(r"[a-z2-7]{52}", label(text))


def test_it_says_what_it_is(node: Node) -> None:
    value = json.loads(made(node))
    assert value["profile"] == "h200x8"
    assert value["ek"] == "ab"
    assert value["keys"] == ["azure-vtpm", "gcp-vtpm", "nitrotpm", "tpm2"]
    assert [len(found["gpus"]) for found in value["gpus"]] == [8]
    assert set(value["lock"].values()) == {True}
