"""Writes `attestation/vectors/evidence-sev-snp.json` and `evidence-nitro.json` (FORMATS sections 4.2 and 4.3):
`PYTHONPATH=tests python -m fakes.evidence_vectors`.

Keys and certificates are new in every run, so the files are made once and then only read; the tests of each kind check them. A negative
vector names the genuine item it comes from and the top-level keys that differ. Of perturbations that differ by a number only, the files
hold the first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fakes import amd, aws, nitro_perturbations, nitro_steps, sev_snp_perturbations, sev_snp_steps
from fakes.amd import Chip, b64u
from fakes.aws import Module
from fakes.pki import AT
from rlu_attestation import x509
from rlu_attestation.evidence import nitro, sev_snp
from rlu_attestation.evidence.sev_snp import ProductLine

DIRECTORY = Path(__file__).resolve().parents[2] / "attestation" / "vectors"
SEV_SNP, NITRO = DIRECTORY / "evidence-sev-snp.json", DIRECTORY / "evidence-nitro.json"

CHIPS = {
    "milan-v2": Chip(version=2),
    "milan-v3": sev_snp_perturbations.CHIP,
    "genoa-v5": Chip("Genoa", version=5),
    "turin-v3": Chip("Turin"),
    "turin-v5": Chip("Turin", version=5),
    "milan-vlek": Chip(csp_id="CN=cc-eu-central-1.example.com"),
}


def families(names: list[str]) -> list[str]:
    """The first of each family of names that differ by a number at their end only."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(name.rstrip("0123456789-"), name)
    return list(found.values())


def changes(name: str, of: str, before: bytes, after: bytes, codes: list[str]) -> dict[str, Any]:
    old, new = json.loads(before), json.loads(after)
    return {
        "name": name,
        "of": of,
        "replace": {
            key: value for key, value in new.items() if json.dumps(old.get(key)) != json.dumps(value)
        },
        "remove": sorted(old.keys() - new.keys()),
        "codes": codes,
    }


def sev_snp_vectors() -> dict[str, Any]:
    roots = [sev_snp.Root.of(x509.parse(amd.ark(line.value).der), line) for line in ProductLine]
    binding = sev_snp_perturbations.BINDING
    genuine = {name: sev_snp_perturbations.genuine(chip) for name, chip in CHIPS.items()}
    of = {chip.product + str(chip.version): name for name, chip in CHIPS.items() if chip.csp_id is None}
    published = families([found.name for found in sev_snp_perturbations.ALL])
    refused = []
    for found in sev_snp_perturbations.ALL:
        if found.name in published:
            base = of[found.chip.product + str(found.chip.version)]
            item = found.perturb(genuine[base]).item()
            codes = sev_snp_steps.failures(item, binding, roots)
            assert codes == list(found.codes)
            refused.append(changes(found.name, base, genuine[base].item(), item, codes))
    return {
        "format": "FORMATS section 4.2",
        "at": AT.isoformat(),
        "binding": b64u(binding),
        "roots": {line.value: b64u(amd.ark(line.value).der) for line in ProductLine},
        "genuine": [{"name": name, "item": json.loads(parts.item())} for name, parts in genuine.items()],
        "refused": refused,
    }


def nitro_vectors() -> dict[str, Any]:
    roots = [nitro.Root.of(x509.parse(aws.root().der))]
    binding = nitro_perturbations.BINDING
    genuine = {kind: nitro_perturbations.genuine(Module(kind)) for kind in nitro.KINDS}
    published = families(
        [found.name for found in nitro_perturbations.ALL if not found.codes[0].startswith("parse")]
    )
    published += [
        "trailing-garbage",
        "unprotected-header",
        "algorithm-es256",
        "payload-key-twice",
        "unknown-field",
    ]
    refused = []
    for found in nitro_perturbations.ALL:
        if found.name in published:
            item = found.perturb(Module()).item()
            codes = nitro_steps.failures(item, binding, roots)
            assert codes == found.expected("nitro")
            refused.append(changes(found.name, "nitro", genuine["nitro"].item(), item, codes))
    return {
        "format": "FORMATS section 4.3",
        "at": AT.isoformat(),
        "max_age_seconds": int(nitro_steps.MAX_AGE.total_seconds()),
        "binding": b64u(binding),
        "roots": [b64u(aws.root().der)],
        "genuine": [{"name": name, "item": json.loads(parts.item())} for name, parts in genuine.items()],
        "refused": refused,
    }


def write() -> None:
    for file, vectors in ((SEV_SNP, sev_snp_vectors()), (NITRO, nitro_vectors())):
        file.write_text(json.dumps(vectors, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write()
