"""Every step of the verification: id, title and what passing proves, in one place; and the names that policies use for steps and claims.

The order and the numbers are in `verifier`; codes are `<step>.<cause>`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    title: str
    proves: str


STEPS = {
    # The instance: statement, evidence, endorsement.
    "statement.encoding": Entry(
        "Instance statement is well-formed", "the statement has one reading, and is of the profile we know"
    ),
    "statement.signature": Entry(
        "Instance statement is signed", "the holder of the instance key made this statement"
    ),
    "statement.time": Entry("Statement is within its time", "at the time given, the statement was in force"),
    "statement.nonce": Entry(
        "Statement answers the nonce", "the statement was made after the nonce was chosen"
    ),
    "evidence.digest": Entry(
        "Evidence is what the statement names",
        "the evidence beside the statement is what its signer collected",
    ),
    "evidence.encoding": Entry("Evidence is well-formed", "the evidence has one reading"),
    "key.hardware": Entry(
        "Evidence fits the key", "evidence of the kind that the statement names for its key is here"
    ),
    "ek.chain": Entry("EK certificate chain", "a CA that the policy names vouches for this TPM"),
    "ek.revocation": Entry(
        "TPM vendor's revocation lists", "the vendor has not revoked a certificate of the chain"
    ),
    "ek.vendor": Entry("TPM vendor", "which TPM this is, in the words of its vendor's certificate"),
    "ak.certificate": Entry(
        "AK certificate by the registrar",
        "a registrar that the policy names saw this AK in that TPM, and where",
    ),
    "ak.attributes": Entry(
        "AK attributes", "the AK signs only what the TPM itself made, and cannot leave it"
    ),
    "key.attributes": Entry(
        "Key attributes",
        "the instance key was made in the TPM, cannot leave it, and works only by its policy",
    ),
    "key.match": Entry("Key that signs is the attested one", "evidence and statement speak of one key"),
    "key.policy": Entry(
        "Key policy", "the key signs only in the quoted platform state, for who knows its secret"
    ),
    "key.certify": Entry("Key certified by the AK", "the instance key is in the same TPM as the AK"),
    "quote.signature": Entry("Quote signature", "the TPM made the quote"),
    "quote.binding": Entry(
        "Quote is bound to the statement", "the TPM quoted for exactly these claims and this nonce"
    ),
    "quote.pcrs": Entry("PCR values", "the PCR values shown are those quoted"),
    "quote.clock": Entry("Quote and certification are of one boot", "the TPM was not reset in between"),
    "quote.ima": Entry("IMA replay", "the kernel's list of measured files leads to the quoted PCR 10"),
    "quote.eventlog": Entry("Event log replay", "the firmware's log leads to the quoted PCR values"),
    # Other hardware than a TPM.
    "sev-snp.root": Entry("AMD root key", "the chain ends in a root of AMD's, or one that the policy adds"),
    "sev-snp.chain": Entry("AMD certificate chain", "AMD certified the key that signs for this processor"),
    "sev-snp.vek": Entry(
        "Report signing key", "the certificate is for the kind of key that the report names"
    ),
    "sev-snp.product": Entry("Product line", "root, certificate and report are of one product line"),
    "sev-snp.tcb": Entry(
        "TCB of the signing key", "the key is of exactly the firmware that the report names"
    ),
    "sev-snp.chip_id": Entry("Processor", "the report is of the processor that the certificate is for"),
    "sev-snp.signature": Entry("Report signature", "the processor's firmware signed the report"),
    "sev-snp.vmpl": Entry("Requested by the guest", "the guest asked for this report, not its host"),
    "sev-snp.revocation": Entry(
        "AMD revocation list", "AMD has not revoked the key that certified this processor"
    ),
    "sev-snp.binding": Entry("Report is bound to the statement", "the guest asked for exactly these claims"),
    **{
        f"{kind}.{step}": entry
        for kind in ("nitro", "nitrotpm")
        for step, entry in {
            "root": Entry("AWS root", "the chain ends in AWS's root, or one that the policy adds"),
            "chain": Entry("AWS certificate chain", "AWS certified the key that signed the document"),
            "certificate": Entry("Signer's certificate", "the key is one for signatures, and no authority's"),
            "signature": Entry("Document signature", "the Nitro hypervisor signed the document"),
            "timestamp": Entry("Document's time", "the document is as young as the policy wants"),
            "revocation": Entry("AWS revocation lists", "AWS has not revoked a certificate of the chain"),
            "binding": Entry(
                "Document is bound to the statement", "the document was asked for with these claims"
            ),
        }.items()
    },
    "tdx.collateral": Entry(
        "Collateral is well-formed", "what Intel publishes about the platform has one reading"
    ),
    "tdx.root": Entry("Intel root", "the chain ends in Intel's root, or one that the policy adds"),
    "tdx.chain": Entry("Intel certificate chain", "Intel certified the key of this platform"),
    "tdx.pck": Entry(
        "Platform certificate", "the certificate is a platform's, and names its security versions"
    ),
    "tdx.qe_report": Entry("Quoting enclave's report", "the platform vouches for the quoting enclave"),
    "tdx.attestation_key": Entry(
        "Attestation key", "the quoting enclave vouches for the key that signed the quote"
    ),
    "tdx.signature": Entry("Quote signature", "that key signed the quote"),
    "tdx.tcb_info": Entry("TCB information", "Intel signed it, and it is current"),
    "tdx.qe_identity": Entry("Identity of the quoting enclave", "Intel signed it, and it is current"),
    "tdx.qe": Entry("Quoting enclave", "the quoting enclave is Intel's, of a version that is not revoked"),
    "tdx.module": Entry("TDX module", "the module is one that Intel names, of a version that is not revoked"),
    "tdx.tcb": Entry("TCB level", "the platform reaches a level that Intel names and has not revoked"),
    "tdx.revocation": Entry("Intel revocation lists", "Intel has not revoked a certificate of the chain"),
    "tdx.event_log": Entry("Event log replay", "the firmware's log leads to the quoted registers"),
    "tdx.binding": Entry(
        "Quote is bound to the statement", "the trust domain asked for exactly these claims"
    ),
    # GPUs.
    "gpu.attestation": Entry("Evidence of the GPUs", "the GPUs' own evidence is here"),
    "nvidia.item": Entry("GPU evidence is well-formed", "the evidence has one reading"),
    "nvidia.collateral": Entry(
        "GPU collateral is well-formed", "what is beside the evidence has one reading"
    ),
    "nvidia.devices": Entry("Devices are distinct", "no device is counted twice"),
    "nvidia.root": Entry("NVIDIA root", "every chain ends in NVIDIA's root, or one that the policy adds"),
    "nvidia.chain": Entry("NVIDIA certificate chains", "NVIDIA certified the key of every device"),
    "nvidia.identity": Entry("Chips", "which chips these are, in the words of their certificates"),
    "nvidia.fwid": Entry("Firmware identity", "every key is of the firmware that its report names"),
    "nvidia.signature": Entry("Report signatures", "every device signed its report"),
    "nvidia.rim_driver": Entry("Driver reference values", "NVIDIA signed reference values for these drivers"),
    "nvidia.rim_vbios": Entry("VBIOS reference values", "NVIDIA signed reference values for this firmware"),
    "nvidia.measurements": Entry(
        "GPU measurements", "every device measured what NVIDIA's reference values say"
    ),
    "nvidia.topology": Entry("NVLink topology", "GPUs and switches list each other, and none is missing"),
    "nvidia.revocation": Entry(
        "NVIDIA revocation", "NVIDIA has not revoked a certificate of devices or values"
    ),
    "nvidia.binding": Entry(
        "Reports are bound to the statement", "every device answered for exactly these claims"
    ),
    "gpu.match": Entry("GPUs as stated", "as many GPUs answered as the statement names, with those versions"),
    # Virtual TPMs of clouds.
    "gcp-vtpm.root": Entry(
        "Google root", "the chain ends in a root of Google's, or one that the policy adds"
    ),
    "gcp-vtpm.chain": Entry("Google certificate chain", "Google certified the AK of this instance"),
    "gcp-vtpm.certificate": Entry(
        "Google's AK certificate", "it is an AK's, and names an instance in production"
    ),
    "gcp-vtpm.ak": Entry("AK that signs is the certified one", "Google's certificate is for this AK"),
    "gcp-vtpm.revocation": Entry(
        "Google revocation lists", "Google has not revoked a certificate of the chain"
    ),
    "azure-vtpm.hardware": Entry("Hardware evidence is well-formed", "the report inside has one reading"),
    "azure-vtpm.runtime_data": Entry(
        "Runtime data", "the hardware's report is about this AK and configuration"
    ),
    "azure-vtpm.vmpl": Entry(
        "Requested by the paravisor", "the VM's own system could not have asked for this report"
    ),
    "azure-vtpm.td_report": Entry(
        "Quote of the TDREPORT", "the quote is of the very report that the paravisor got"
    ),
    "azure-vtpm.paravisor": Entry(
        "Paravisor", "a paravisor that the policy names made the AK, and nobody else"
    ),
    "azure-vtpm.ak": Entry("AK that signs is the reported one", "the hardware's report covers this AK"),
    "endorsement.match": Entry(
        "Region, boundary and site as endorsed", "the registrar endorsed the place that the statement names"
    ),
    "channel": Entry("TLS channel", "the connection ends at the attested key"),
    # The log and what it holds.
    "log.heads": Entry("Log shows one history", "no two signed heads or receipts here contradict each other"),
    "log.head": Entry("Signed head", "the instance key signed the log's state"),
    "log.cosignatures": Entry(
        "Cosignatures of witnesses",
        "the states of the log named here existed by then, by the clocks of witnesses that the policy names",
    ),
    "session.inclusion": Entry(
        "Session is in the signed log", "the instance key signed this session, in an append-only log"
    ),
    "session.statement": Entry("Session statement is well-formed", "the session statement has one reading"),
    "session.instance": Entry("Session is of this instance", "what was attested is what opened the session"),
    "session.time": Entry("Session is within its time", "at the time given, the session was in force"),
    "session.nonce": Entry("Session answers the nonce", "the session was opened after the nonce was chosen"),
    "session.channel": Entry("Session's TLS channel", "the session was opened for the attested TLS key"),
    "session.commitment_key": Entry(
        "Commitment key", "the key that opens the receipts is the one the session committed to"
    ),
    "session.opening": Entry("Opening request", "the implicit session was opened by exactly this request"),
    "receipt.inclusion": Entry("Receipt is in the signed log", "the instance key signed this receipt"),
    "receipt.statement": Entry("Receipt is well-formed", "the receipt has one reading"),
    "receipt.session": Entry("Receipt is of this session", "the receipt cannot be of another session"),
    "receipt.sequence": Entry(
        "Receipts are in sequence", "no two receipts claim one number or one place in the log"
    ),
    "receipt.request": Entry("Request bytes", "the gateway reports to have received exactly these bytes"),
    "receipt.response": Entry("Response bytes", "the gateway reports to have sent exactly these bytes"),
    "receipt.forwarded": Entry(
        "Forwarded request", "the gateway reports to have passed the request on unchanged"
    ),
    "close.inclusion": Entry("Close is in the signed log", "the instance key signed the end of the session"),
    "close.statement": Entry("Close is well-formed", "the close has one reading"),
    "close.session": Entry("Close is of this session", "the close cannot be of another session"),
    "close.running": Entry("Running commitment", "the receipts here are all that the session has"),
    # Appraisal by the policy.
    "policy.coverage": Entry("Everything required is here", "the bundle covers what the policy requires"),
    "policy.tpm": Entry("TPM is hardware", "the TPM is not an emulator, going by its vendor's certificate"),
    "policy.tee": Entry("TEE settings", "nothing weakens the TEE that the policy does not accept by name"),
    "policy.tcb": Entry("Security versions", "the firmware under the TEE is new enough for the policy"),
    "policy.measurements": Entry("Measurements", "what was launched is what the policy names"),
    "policy.profile": Entry(
        "Machine fits its profile", "evidence and GPUs are what the stated profile promises"
    ),
    "policy.gpu": Entry("GPUs", "the policy accepts the GPUs, their number, memory and versions"),
    "continuity": Entry(
        "Continuity of keys", "each key that stepped down named the one that followed; it proves no hardware"
    ),
    "policy.key": Entry("Key age and revocation", "the key is not revoked, and young enough"),
    "policy.witnesses": Entry(
        "Witnesses", "as many witnesses as the policy requires saw every statement here in the log"
    ),
    "policy.session": Entry("Session age", "the session is as young as the policy wants"),
    "policy.hardware_profile": Entry("Hardware profile", "the policy accepts the profile"),
    "policy.region": Entry("Region", "the policy accepts the region"),
    "policy.boundary": Entry("Boundary", "the policy accepts the boundary"),
    "policy.site": Entry("Site", "the policy accepts the site"),
    "policy.model": Entry("Model", "the policy accepts the model, by the digest of its manifest"),
    "policy.model_signer": Entry(
        "Signature of the model", "a signer that the policy names signed every model"
    ),
    "policy.engine": Entry("Engine", "the policy accepts the engine, its version and arguments"),
    "policy.gateway": Entry("Gateway", "the policy accepts the gateway, its version and image"),
    "policy.debug": Entry("Debug state", "the policy accepts the debug state"),
    "policy.boot": Entry("Verified boot", "the platform says that verified boot is on"),
    "policy.pcrs": Entry("Platform state", "the policy accepts the PCR values"),
    "policy.channel": Entry("Origin of the TLS key", "the policy accepts where the TLS key was born"),
    "policy.lock": Entry("Lock posture", "every process is locked as the policy demands"),
    "policy.canary": Entry(
        "Canary test", "the attestor took over a canary test as young and clean as the policy demands"
    ),
    "policy.sources": Entry("Sources of the claims", "every claim is known as well as the policy demands"),
}

_TPM = tuple(
    step
    for step in STEPS
    if step.partition(".")[0] in ("ak", "key", "quote") and step not in ("ak.certificate", "key.hardware")
)
_OF_KIND = {
    "tpm2": ("ek.chain", "ek.revocation", "ek.vendor", "ak.certificate", *_TPM),
    "gcp-vtpm": _TPM,
    "azure-vtpm": _TPM,
}


def steps_of(kind: str) -> tuple[str, ...]:
    """The steps that are made for one kind of evidence only, or for the few kinds that share a TPM's."""
    return (*(step for step in STEPS if step.startswith(f"{kind}.")), *_OF_KIND.get(kind, ()))


CLAIMS = (
    "key",
    "tpm",
    "pcrs",
    "tee",
    "tcb",
    "gpus",
    "verified_boot",
    "debug",
    "tls",
    "model",
    "engine",
    "gateway",
    "hardware_profile",
    "lock",
    "log",
    "region",
    "boundary",
    "site",
)
"""Claims of an instance, by the names that `[minimum_source]` uses."""

COVERAGE = ("instance", "session", "receipts", "close")
"""What a bundle may cover; `require` of a policy says what it must."""

WAIVABLE = (
    "azure-vtpm.paravisor",
    "ek.revocation",
    "gcp-vtpm.revocation",
    "gpu.attestation",
    "nitro.binding",
    "nitro.revocation",
    "nitrotpm.binding",
    "nitrotpm.revocation",
    "nvidia.binding",
    "nvidia.measurements",
    "nvidia.revocation",
    "nvidia.rim_driver",
    "nvidia.rim_vbios",
    "nvidia.topology",
    "quote.binding",
    "sev-snp.binding",
    "sev-snp.revocation",
    "tdx.binding",
    "tdx.module",
    "tdx.qe",
    "tdx.qe_identity",
    "tdx.revocation",
    "tdx.tcb",
    "tdx.tcb_info",
    "statement.nonce",
    "channel",
    "session.nonce",
    "session.commitment_key",
    "session.opening",
    "receipt.request",
    "receipt.forwarded",
    "receipt.response",
    "close.running",
)
"""Steps that may be impossible to make, for which a policy may name a reason. A check that was made and failed is never waived."""
