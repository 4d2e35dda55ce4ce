"""Writes `attestation/vectors/evidence-gcp-vtpm.json` and `evidence-azure-vtpm.json` (FORMATS sections 4.6 and 4.7):
`PYTHONPATH=tests python -m fakes.vtpm_vectors`.

Keys and certificates are new in every run, so the files are made once and then only read; the tests of each kind check them. A negative
vector names the genuine item it comes from and the top-level keys that differ. What all kinds with a TPM share is in `evidence-tpm2.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fakes import azure, azure_vtpm_perturbations, gcp_vtpm_perturbations, google
from fakes import azure_vtpm_steps as azure_steps
from fakes import gcp_vtpm_steps as gcp_steps
from fakes.amd import b64u
from fakes.evidence_vectors import DIRECTORY, changes, families
from fakes.pki import AT
from fakes.tpm_perturbations import BINDING, SHARED, TpmScene, more

GCP, AZURE = DIRECTORY / "evidence-gcp-vtpm.json", DIRECTORY / "evidence-azure-vtpm.json"
Table = Mapping[str, tuple[Callable[[Any], Any], list[str]]]


def own(table: Table) -> dict[str, tuple[Callable[[Any], Any], list[str]]]:
    """A kind's own perturbations, the first of each family."""
    return {name: table[name] for name in families(list(table)) if name not in SHARED}


def refused(
    table: Table, of: str, make: Callable[[], TpmScene], fails: Callable[[bytes], list[str]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A genuine item, and what comes from it; every perturbation works on the same machine."""
    scene = make()
    genuine = scene.parts.encode()
    found = []
    for name, (perturb, codes) in own(table).items():
        item = perturb(scene).encode()
        assert fails(item) == codes, name
        found.append(changes(name, of, genuine, item, codes))
    return {"name": of, "item": json.loads(genuine)}, found


def gcp_vectors() -> dict[str, Any]:
    def fails(data: bytes) -> list[str]:
        return gcp_steps.failures(data, BINDING, gcp_steps.roots())

    newer, wrong = refused(gcp_vtpm_perturbations.PERTURBATIONS, "rsa", gcp_vtpm_perturbations.scene, fails)
    older, further = refused(
        gcp_vtpm_perturbations.OLDER, "rsa-older", lambda: gcp_vtpm_perturbations.scene(older=True), fails
    )
    measured = json.loads(gcp_vtpm_perturbations.scene().with_ima(more).encode())
    return {
        "format": "FORMATS section 4.6",
        "at": AT.isoformat(),
        "binding": b64u(BINDING),
        "roots": [b64u(google.root(hierarchy).der) for hierarchy in (False, True)],
        "genuine": [newer, older, {"name": "with-ima", "item": measured}],
        "refused": [*wrong, *further],
    }


def azure_vectors() -> dict[str, Any]:
    def fails(data: bytes) -> list[str]:
        return azure_steps.failures(data, BINDING)

    on_amd, wrong = refused(
        azure_vtpm_perturbations.PERTURBATIONS, "sev-snp", azure_vtpm_perturbations.scene, fails
    )
    on_intel, further = refused(
        azure_vtpm_perturbations.TDX, "tdx", lambda: azure_vtpm_perturbations.scene("tdx"), fails
    )
    return {
        "format": "FORMATS section 4.7",
        "at": AT.isoformat(),
        "binding": b64u(BINDING),
        "roots": {kind: b64u(root) for kind, root in azure_steps.anchors().items()},
        "paravisors": [b64u(measurement) for measurement in azure.PARAVISOR.values()],
        "genuine": [on_amd, on_intel],
        "refused": [*wrong, *further],
    }


def write() -> None:
    for file, vectors in ((GCP, gcp_vectors()), (AZURE, azure_vectors())):
        file.write_text(json.dumps(vectors, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write()
