"""Writes `attestation/vectors/evidence-tdx.json` (FORMATS section 4.4): `PYTHONPATH=tests python -m fakes.tdx_vectors`.

Keys and certificates are new in every run, so the file is made once and then only read; the tests check it. A negative vector names the
genuine item it comes from and what differs:

    quote        [offset, length, bytes]: so many bytes of the quote are replaced by others
    collateral   members of the collateral that are replaced (null: removed)
    members      members of the item that are replaced (null: removed), after all else

Of perturbations that differ by a number only, the file holds the first; what is only long is left out.
"""

from __future__ import annotations

import json
from typing import Any

from fakes import intel, tdx_perturbations
from fakes.amd import b64u
from fakes.evidence_vectors import DIRECTORY, families
from fakes.intel import Parts
from fakes.pki import AT
from fakes.tdx_changes import BINDING, V4, V5, V15, Perturbation, genuine
from fakes.tdx_steps import failures
from rlu_attestation import x509
from rlu_attestation.evidence import tdx

FILE = DIRECTORY / "evidence-tdx.json"
PLATFORMS = {
    "v4-td1.0": V4,
    "v5-td1.0": V5,
    "v5-td1.5": V15,
    "v4-processor-ca": intel.Platform(processor=True),
}
LONG = frozenset({"collateral-text-too-long", "tcb-info-nested-without-end", "tcb-info-huge-integer"})


def published() -> list[Perturbation]:
    """What the file holds."""
    names = set(families([found.name for found in tdx_perturbations.ALL])) - LONG
    return [found for found in tdx_perturbations.ALL if found.name in names]


def splice(before: bytes, after: bytes) -> list[Any]:
    """[offset, length, bytes]: what lies between the beginning and the end that both have."""
    start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
    if start is None:
        start = min(len(before), len(after))
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return [start, len(before) - start - end, b64u(after[start : len(after) - end])]


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    # As text, because true equals 1 here.
    changed = {
        name: value for name, value in after.items() if json.dumps(before.get(name)) != json.dumps(value)
    }
    return changed | dict.fromkeys(before.keys() - after.keys())


def changes(base: Parts, changed: Parts) -> dict[str, Any]:
    old, new = json.loads(base.item()), json.loads(changed.item())
    found: dict[str, Any] = {}
    if changed.quote != base.quote and "quote" not in changed.further:
        found["quote"] = splice(base.quote.data, changed.quote.data)
        del old["quote"], new["quote"]
    stapled = "collateral" in new and isinstance(new["collateral"], dict)
    if stapled and (members := differences(old.pop("collateral"), new.pop("collateral"))):
        found["collateral"] = members
    if members := differences(old, new):
        found["members"] = members
    return found


def vectors() -> dict[str, Any]:
    roots = [tdx.Root.of(x509.parse(intel.root().der))]
    of = {platform: name for name, platform in PLATFORMS.items()}
    refused = []
    for found in published():
        base = genuine(found.platform)
        changed = found.perturb(genuine(found.platform))
        codes = failures(changed.item(), BINDING, roots)
        assert codes == list(found.codes)
        refused.append(
            {"name": found.name, "of": of[found.platform], "codes": codes, **changes(base, changed)}
        )
    return {
        "format": "FORMATS section 4.4",
        "at": AT.isoformat(),
        "binding": b64u(BINDING),
        "roots": [b64u(intel.root().der)],
        "genuine": [
            {"name": name, "item": json.loads(genuine(platform).item())}
            for name, platform in PLATFORMS.items()
        ],
        "perturbed": refused,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1, sort_keys=True) + "\n")
