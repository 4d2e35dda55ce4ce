"""Writes `attestation/vectors/evidence-nvidia.json` (FORMATS section 4.5): `PYTHONPATH=tests python -m fakes.nvidia_vectors`.

Keys and certificates are new in every run, so the file is made once and then only read; the tests check it. A negative vector is the
genuine item `hgx` with changes, as `HOW` says. Of perturbations that differ by a number only, the file holds the first.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

from fakes import nvidia as fake
from fakes import nvidia_steps
from fakes.evidence_vectors import families
from fakes.nvidia import Device, Node, b64u
from fakes.nvidia_changes import BINDING, NONCE, genuine
from fakes.nvidia_perturbations import ALL
from fakes.pki import AT

NVIDIA = Path(__file__).resolve().parents[2] / "attestation" / "vectors" / "evidence-nvidia.json"

HOW = (
    "A refused item is the genuine one named by `of`, changed: `set` replaces members of the item, or removes those it gives as null; "
    "`splice` names a b64u value by its path and replaces `remove` of its bytes, from `at` on, by `insert`."
)


def unb64u(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def leaves(value: Any, path: str = "") -> dict[str, str]:
    """Every text in the item by its path."""
    if isinstance(value, str):
        return {path: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {
        found: text
        for key, inner in pairs
        for found, text in leaves(inner, f"{path}/{key}".lstrip("/")).items()
    }


def splice(path: str, before: bytes, after: bytes) -> dict[str, Any]:
    start, end = 0, 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return {
        "path": path,
        "at": start,
        "remove": len(before) - end - start,
        "insert": b64u(after[start : len(after) - end]),
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """`set` where the shape differs, `splice` where only bytes do."""
    replaced: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    spliced = []
    for key, value in after.items():
        old = before.get(key)
        if json.dumps(old) == json.dumps(value):
            continue
        first, second = leaves(old, key), leaves(value, key)
        if key in ("kind", "binding") or first.keys() != second.keys() or not decodable(second):
            replaced[key] = value
            continue
        spliced += [
            splice(path, unb64u(first[path]), unb64u(text))
            for path, text in second.items()
            if text != first[path]
        ]
    return {"set": replaced, "splice": spliced}


def decodable(texts: dict[str, str]) -> bool:
    return all("=" not in text and b64u(unb64u(text)) == text for text in texts.values())


def apply(item: dict[str, Any], vector: dict[str, Any]) -> bytes:
    """The item that a negative vector is."""
    changed = json.loads(json.dumps(item))
    for key, value in vector["set"].items():
        changed[key] = value
    changed = {key: value for key, value in changed.items() if value is not None}
    for edit in vector["splice"]:
        *above, last = (int(part) if part.isdigit() else part for part in edit["path"].split("/"))
        holder = changed
        for part in above:
            holder = holder[part]
        data, at = unb64u(holder[last]), edit["at"]
        holder[last] = b64u(data[:at] + unb64u(edit["insert"]) + data[at + edit["remove"] :])
    return json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()


def vectors() -> dict[str, Any]:
    items = {
        "hgx": genuine().item(),
        "blackwell": Node((Device("GB100"),)).parts(NONCE).item(),
        "old-firmware": Node((Device(fwid=None),)).parts(NONCE).item(),
    }
    base = json.loads(items["hgx"])
    published = families([found.name for found in ALL])
    refused = []
    for found in ALL:
        if found.name not in published or not found.codes:
            continue
        parts = NODE_PARTS.copy()
        found.perturb(parts)
        data = parts.item()
        try:
            vector = {"name": found.name, "codes": list(found.codes)} | changes(base, json.loads(data))
        except (ValueError, TypeError):  # not JSON that a delta can be told of
            continue
        # A delta that cannot say it, or that takes as much as the item, is left to the test suite.
        if apply(base, vector) == data and len(json.dumps(vector)) < 12_000:
            refused.append(vector)
    return {
        "format": "FORMATS section 4.5",
        "how": HOW,
        "at": AT.isoformat(),
        "max_age_seconds": int(nvidia_steps.MAX_AGE.total_seconds()),
        "binding": b64u(BINDING),
        "roots": {"device": b64u(fake.device_root().der), "rim": b64u(fake.rim_root().der)},
        "genuine": [{"name": name, "item": json.loads(data)} for name, data in items.items()],
        "of": "hgx",
        "refused": refused,
    }


NODE_PARTS = genuine()

if __name__ == "__main__":
    NVIDIA.write_text(json.dumps(vectors(), indent=1) + "\n")
