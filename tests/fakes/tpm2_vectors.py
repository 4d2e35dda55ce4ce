"""Writes `attestation/vectors/evidence-tpm2.json` (FORMATS sections 4 and 8): `PYTHONPATH=tests python -m fakes.tpm2_vectors`.

Keys and certificates are new in every run, so the file is made once and then only read: `test_published_vectors.py` checks it. A negative
vector names the genuine item it comes from and the top-level keys that differ.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from fakes import tpm_marshal as marshal
from fakes.machine import Machine, Parts
from fakes.pki import AT
from fakes.tpm import FakeTpm
from fakes.tpm2_perturbations import BINDING, PERTURBATIONS, Scene
from fakes.tpm2_steps import failures
from fakes.tpm_perturbations import more
from rlu_attestation.encoding import b64u
from rlu_attestation.evidence import tpm2

FILE = Path(__file__).resolve().parents[2] / "attestation" / "vectors" / "evidence-tpm2.json"
REFUSED_OF = "ecdsa-p256-sha256"
TPMS: dict[str, dict[str, Any]] = {
    REFUSED_OF: {},
    "ecdsa-p384-sha384": {
        "ak_kind": "p384",
        "ak_hash": "sha384",
        "ek_kind": "p384",
        "banks": ("sha256", "sha384"),
    },
    "rsassa-sha256": {"ak_kind": "rsa2048", "ak_scheme": marshal.RSASSA},
    "rsapss-sha256": {"ak_kind": "rsa2048", "ak_scheme": marshal.RSAPSS, "ek_kind": "p256"},
}


def genuine(name: str, machine: Machine, parts: Parts) -> dict[str, Any]:
    evidence = tpm2.parse(parts.encode())
    return {
        "name": name,
        "item": parts.item(),
        "ak_name": b64u(tpm2.name_of(evidence.ak_public)),
        "key_name": b64u(tpm2.name_of(evidence.key_public)),
        "key_policy": b64u(evidence.key_public.auth_policy),
        "endorsement": json.loads(machine.endorsed.encode()),
    }


def refused(name: str, machine: Machine, parts: Parts) -> dict[str, Any]:
    perturb, codes = PERTURBATIONS[name]
    changed = perturb(Scene(copy.deepcopy(machine), parts))
    assert failures(changed.encode(), BINDING, machine.ek_roots, machine.registrars) == codes
    before, after = parts.item(), changed.item()
    return {
        "name": name,
        "of": REFUSED_OF,
        "replace": {key: value for key, value in after.items() if before.get(key) != value},
        "remove": sorted(before.keys() - after.keys()),
        "codes": codes,
    }


def write() -> None:
    machines = {name: Machine(FakeTpm(name, **settings)) for name, settings in TPMS.items()}
    parts = {name: machine.parts(BINDING) for name, machine in machines.items()}
    parts["shared-quote"] = machines[REFUSED_OF].parts(BINDING, (b"\x01" * 32,), (b"\x02" * 32, b"\x03" * 32))
    first = machines[REFUSED_OF]
    measured = copy.deepcopy(first)
    parts["with-ima"] = Scene(measured, measured.parts(BINDING)).with_ima(more)
    document = {
        "format": "FORMATS sections 4 and 8",
        "at": AT.isoformat(),
        "binding": b64u(BINDING),
        "ek_roots": [b64u(root.raw) for root in first.ek_roots],
        "registrars": [b64u(root.raw) for root in first.registrars],
        "genuine": [genuine(name, machines.get(name, first), found) for name, found in parts.items()],
        "refused": [refused(name, first, parts[REFUSED_OF]) for name in PERTURBATIONS],
    }
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write()
