"""AMD SEV-SNP: a guest whose memory its host cannot read holds the key; the report names its measurement and the firmware below."""

from __future__ import annotations

from collections.abc import Sequence

from rlu_attestation import x509
from rlu_attestation.evidence import sev_snp
from rlu_attestation.evidence.sev_snp import (
    PINNED,
    ProductLine,
    Root,
    SevSnpClaims,
    SevSnpEvidence,
    TcbParts,
    product_of_name,
)
from rlu_attestation.names import common_name
from rlu_attestation.verdict import Claim, Source
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.proof import LOWER_VMPL, Conditions, HardwareProof, Tcb
from rlu_attestation.verifier.trail import Failed, Trail, absent_is_not_made, blocking, need

parse = sev_snp.parse


def check(
    trail: Trail, conditions: Conditions, subject: Subject, held: SevSnpEvidence | Failed
) -> HardwareProof | Failed:
    """Run the steps; gives a `Failed` unless every one passed or was waived."""
    at, run = conditions.moment, trail.check
    added = conditions.roots(sev_snp.KIND)
    root = run(
        "sev-snp.root",
        lambda: sev_snp.verify_root(need(held), _roots(added)),
        lambda r: f"ARK {r.product.value}",
    )
    chain = run("sev-snp.chain", lambda: sev_snp.verify_chain(need(held), at))
    vek = run("sev-snp.vek", lambda: sev_snp.verify_vek(need(held)), lambda found: found.kind.name)
    product = run("sev-snp.product", lambda: sev_snp.verify_product(need(held), need(root)), _line)
    levels = run("sev-snp.tcb", lambda: sev_snp.verify_tcb(need(held), need(product)), str)
    chip = run("sev-snp.chip_id", lambda: sev_snp.verify_chip_id(need(held), need(product)), _chip)
    signature = run("sev-snp.signature", lambda: sev_snp.verify_signature(need(held)))
    vmpl = run("sev-snp.vmpl", lambda: sev_snp.verify_vmpl(need(held)), lambda level: f"level {level}")
    lists = conditions.crls
    revoked = run(
        "sev-snp.revocation",
        lambda: absent_is_not_made(lambda: sev_snp.verify_revocation(need(held), at, lists())),
        lambda found: f"list of {found.this_update.date()}",
    )
    bound = run("sev-snp.binding", lambda: _bind(need(held), subject), str)
    results = (root, chain, vek, product, levels, chip, signature, vmpl, revoked, bound)
    failed = blocking(results)
    if failed is not None:
        return failed
    return proof(sev_snp.claims_of(need(held), need(product), need(vek)))


def proof(claims: SevSnpClaims) -> HardwareProof:
    """The claims in the verifier's words."""
    report = claims.report
    hazards = {}
    if claims.migration_agent_allowed:
        hazards["migration"] = "a migration agent may move the guest, and its secrets, elsewhere"
    if claims.vmpl != 0:
        hazards[LOWER_VMPL] = (
            f"privilege level {claims.vmpl} asked for the report: the measurement is of what runs above it"
        )
    if claims.provisional_firmware:
        hazards["provisional-firmware"] = (
            "the host can still go back to older firmware than the one that runs"
        )
    return HardwareProof(
        kind=sev_snp.KIND,
        what=f"AMD SEV-SNP guest on EPYC {claims.product.value}, {claims.signing_key.name}",
        claims=(
            Claim(
                "tee",
                f"measurement {claims.measurement.hex()}, guest SVN {claims.guest_svn}",
                Source.HARDWARE,
            ),
        ),
        measurements={
            "measurement": report.measurement,
            "host_data": report.host_data,
            "id_key_digest": report.id_key_digest,
            "author_key_digest": report.author_key_digest,
            "family_id": report.family_id,
            "image_id": report.image_id,
        },
        tcb=Tcb(sev_snp.KIND, claims.product.value.lower(), levels_of(claims.reported_tcb)),
        debug=claims.debug_allowed,
        hazards=hazards,
        isolated=True,
    )


def levels_of(parts: TcbParts) -> dict[str, int]:
    """Component to level, by the names that policies use."""
    levels = {
        "boot_loader": parts.boot_loader,
        "tee": parts.tee,
        "snp": parts.snp,
        "microcode": parts.microcode,
    }
    return levels if parts.fmc is None else {"fmc": parts.fmc, **levels}


def _roots(added: Sequence[x509.Certificate]) -> tuple[Root, ...]:
    """AMD's, and those of the policy, each for the product line that its name ends in, as in `ARK-Milan`."""
    names = ((common_name(found.subject, "sev-snp.root.name"), found) for found in added)
    return (*PINNED, *(Root.of(found, product_of_name(name.rpartition("-")[2])) for name, found in names))


def _bind(held: SevSnpEvidence, subject: Subject) -> str:
    return subject.bound(
        "sev-snp.binding",
        lambda binding: sev_snp.verify_binding(held, binding),
        lambda expected: sev_snp.verify_report_data(held, expected),
        size=64,
    )


def _line(product: ProductLine) -> str:
    return product.value


def _chip(hwid: bytes | None) -> str:
    return "not named by a VLEK" if hwid is None else hwid.hex()
