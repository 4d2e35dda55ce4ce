"""scripts/check_help.py finds what a document shows and nobody can run."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "helm/rlu/values.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def check_help() -> ModuleType:
    spec = spec_from_file_location("check_help", ROOT / "scripts" / "check_help.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["check_help"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def block(line: str, kind: str = "console") -> str:
    return f"Text.\n```{kind}\n{line}\n```\n"


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (block("$ rlu mend"), "there is no command mend"),
        ("Say `rlu mend` to it.", "there is no command mend"),
        (block("$ rlu keys mend"), "keys has no command mend"),
        (block("$ rlu keys rotate --now"), "keys rotate has no option --now"),
        ("Say `rlu keys rotate --now`.", "keys rotate has no option --now"),
        (block("$ rlu keys export -x file"), "keys export has no option -x"),
        (block("$ sudo rlu selftest egress --dry"), "selftest egress has no option --dry"),
        (block("$ rlu version && rlu keys rotate --now"), "keys rotate has no option --now"),
        (block("$ kubectl -n rlu exec rlu-0 -- rlu keys rotate --now"), "keys rotate has no option --now"),
        (block("$ rlu keys export"), "keys export needs --out"),
        (block("$ rlu keys export -o"), "keys export refuses"),
        (block("$ rlu inspect"), "inspect needs file"),
        (block("$ rlu inspect one two"), "inspect takes no word 'two'"),
        (block("$ rlu keys"), "keys is no command of its own"),
        (block("$ make coffee"), "there is no `make coffee`"),
        (block("$ helm mend rlu"), "not among what is known of Helm"),
        (block("$ helm rollback rlu 1 --set image.tag=x"), "helm rollback has no option --set"),
        (block("$ helm install rlu ./helm/rlu --set image.sha=1"), "the chart has no value image.sha"),
        (block("$ helm install rlu ./helm/other"), "there is no ./helm/other"),
        (block("$ helm install rlu ./helm/rlu -f helm/rlu/values-b300.yaml"), "values-b300.yaml"),
        (block("model: {pvc: {claim: models}}", "yaml"), "the chart has no value model.pvc.claim"),
        ("See `gateway.drainMinutes`.", "the chart has no value gateway.drainMinutes"),
    ],
)
def test_what_is_not_there_is_found(check_help: ModuleType, text: str, finding: str) -> None:
    found = list(check_help.check_document(text, {"test"}, SCHEMA))
    assert len(found) == 1
    assert finding in found[0]


@pytest.mark.parametrize(
    "text",
    [
        block("$ rlu keys export -o request.json    # carry it; and then some"),
        block("$ rlu connect https://localhost:8443 --policy policy.toml -- codex exec --any-option"),
        block("$ rlu keys export \\\n    --bundle -o file > log"),
        block("$ make test && sudo rlu selftest egress --json"),
        "Named only: `rlu keys export`, `rlu keys`, `gateway.drainSeconds`, `log.restored`.",
        block("$ helm upgrade rlu ./helm/rlu -n rlu --set pod.labels.team=x,exposure.host=h"),
        block("apiVersion: v1\nkind: Pod", "yaml"),
        block("pod: {labels: {team: x}}\nnetworkPolicy: {from: [{ipBlock: {}}]}", "yaml"),
    ],
)
def test_what_is_there_is_not(check_help: ModuleType, text: str) -> None:
    assert list(check_help.check_document(text, {"test"}, SCHEMA)) == []


def test_every_document_of_docs_is_held(check_help: ModuleType) -> None:
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= set(check_help.DOCUMENTS)
