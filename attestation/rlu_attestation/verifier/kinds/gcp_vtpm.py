"""A Compute Engine instance's virtual TPM: Google vouches for its AK, and says which instance it is and where."""

from __future__ import annotations

from rlu_attestation.evidence import gcp_vtpm
from rlu_attestation.evidence.gcp_vtpm import GceInstance, GcpVtpmEvidence, Root
from rlu_attestation.verdict import Claim, Source
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.kinds.tpm import check_tpm, describe_pcrs
from rlu_attestation.verifier.proof import Conditions, HardwareProof, Place
from rlu_attestation.verifier.trail import Failed, Trail, absent_is_not_made, blocking, need

parse = gcp_vtpm.parse


def check(
    trail: Trail, conditions: Conditions, subject: Subject, held: GcpVtpmEvidence | Failed
) -> HardwareProof | Failed:
    """Run the steps; gives a `Failed` unless every one passed or was waived."""
    at, run = conditions.moment, trail.check
    roots = (*gcp_vtpm.PINNED, *map(Root.of, conditions.roots(gcp_vtpm.KIND)))
    root = run("gcp-vtpm.root", lambda: gcp_vtpm.verify_root(need(held), roots))
    chain = run("gcp-vtpm.chain", lambda: gcp_vtpm.verify_chain(need(held), at))
    instance = run("gcp-vtpm.certificate", lambda: gcp_vtpm.verify_certificate(need(held)), describe)
    ak = run("gcp-vtpm.ak", lambda: gcp_vtpm.verify_ak(need(held)))
    revoked = run(
        "gcp-vtpm.revocation",
        lambda: absent_is_not_made(lambda: gcp_vtpm.verify_revocation(need(held), at, conditions.crls())),
        lambda lists: f"{len(lists)} lists",
    )
    quoted = check_tpm(trail, subject, held)
    failed = blocking((root, chain, instance, ak, revoked, *quoted.results))
    if failed is not None:
        return failed
    pcrs = need(quoted.pcrs)
    return HardwareProof(
        kind=gcp_vtpm.KIND,
        what="Google virtual TPM",
        claims=(
            Claim("tpm", f"Google virtual TPM of {describe(need(instance))}", Source.ENDORSED),
            # The host's software keeps these PCRs: Google's word, not hardware's.
            Claim("pcrs", describe_pcrs(pcrs), Source.ENDORSED),
        ),
        pcrs=pcrs,
        place=Place(region=need(instance).region, by="Google"),
        source=Source.ENDORSED,
    )


def describe(instance: GceInstance) -> str:
    """The instance in words."""
    return f"instance {instance.instance_name} in {instance.zone} of project {instance.project_id}"
