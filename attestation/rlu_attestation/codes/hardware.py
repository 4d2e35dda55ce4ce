"""Steps of hardware: TPMs, TEEs and GPUs."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_GENUINE = "Do not trust the machine before its vendor's chain verifies: ask for the evidence again, then ask its operator."
_ROOT = Text(
    "The chain does not end where the vendor's, or yours, does.",
    "If the root is one that you trust, add it: trust.roots of the policy, or --roots. If not, the evidence proves nothing.",
)
_CHAIN = Text(
    "The certificates do not lead from the root to the key that signed.",
    "Check the time (--as-of), and take the whole chain from the vendor; a chain of another product does not fit.",
)
_REVOCATION = Text(
    "Nobody can say that the vendor has not withdrawn the key.",
    "Staple the vendor's current lists: `rlu collateral fetch`, or --with LIST. A revoked key is never to be trusted again.",
)
_BINDING = Text(
    "Evidence about something else, or somebody else, proves nothing here.",
    "Ask for evidence with a nonce of your own; of bare evidence, say by --report-data what it must be about.",
)
_SIGNATURE = Text("The evidence was changed, or signed by another key than the certified one.", _GENUINE)
_INTEL = "Fetch Intel's collateral again (`rlu collateral fetch`), or pass --as-of the time at which it was in force."
_RIM = Text(
    "Without NVIDIA's signed reference values for exactly this version, nothing says that the device runs what it should.",
    "Fetch the reference values for the version that the report names (`rlu collateral fetch`), and pass them by --with.",
)
_LOG = Text(
    "The log does not lead to the values that the hardware signed, so its events prove nothing.",
    "Collect log and evidence together, right after one another; if it stays so, the log was changed.",
)

_AWS = {
    "root": _ROOT,
    "chain": _CHAIN,
    "certificate": Text("The certificate is not one that may sign documents.", _GENUINE),
    "signature": _SIGNATURE,
    "timestamp": Text(
        "Documents are to be young, and are signed within the hours for which their certificate lives.",
        "Ask for a fresh document; to judge an old one, pass its time by --as-of, or raise time.max_evidence_age_s.",
    ),
    "revocation": _REVOCATION,
    "binding": _BINDING,
}

HARDWARE = {
    "ek.chain": Text(
        "No CA that the policy names vouches for this TPM.",
        "Add the CA of the TPM's vendor: trust.ek_roots of the policy, or --roots with tpm.pem; `rlu inspect` shows who issued it.",
    ),
    "ek.revocation": _REVOCATION,
    "ek.vendor": Text(
        "The EK certificate names its TPM in a way that cannot be read.", "Look at it with `rlu inspect`."
    ),
    "ak.certificate": Text(
        "No registrar that the policy names has seen this AK in that TPM.",
        "Have the machine endorsed (`rlu registrar`), or add the registrar that did: trust.registrars, or --roots with registrar.pem.",
    ),
    "ak.attributes": Text("An AK that signs anything, or can leave its TPM, proves nothing.", _GENUINE),
    "key.attributes": Text(
        "The instance key could leave the TPM, or be used by whoever knows a password.", _GENUINE
    ),
    "key.match": Text(
        "The evidence is about another key than the one that signs.",
        "Ask for statement and evidence together.",
    ),
    "key.policy": Text(
        "The key would sign in another platform state than the one that was quoted.",
        "Have the server make its key again in its present state.",
    ),
    "key.certify": Text("The AK did not certify this key.", _GENUINE),
    "quote.signature": Text("The quote was changed, or made by another TPM.", _GENUINE),
    "quote.binding": _BINDING,
    "quote.pcrs": Text("The values shown are not those that the TPM signed.", _GENUINE),
    "quote.clock": Text(
        "The TPM was reset or changed between the two, so they may be about two states.",
        "Have the attestor started again, and ask again.",
    ),
    "quote.eventlog": _LOG,
    "quote.ima": _LOG,
    "sev-snp.root": _ROOT,
    "sev-snp.chain": _CHAIN,
    "sev-snp.vek": Text(
        "The certificate is for another kind of key, or not of AMD's form.",
        "Take VCEK or VLEK as the report says.",
    ),
    "sev-snp.product": Text(
        "Root, certificate and report are of different processors.",
        "Take the chain of the processor's own product line.",
    ),
    "sev-snp.tcb": Text(
        "AMD certifies a key for each firmware level, and this certificate is for another.",
        "Take the certificate for the REPORTED_TCB of the report.",
    ),
    "sev-snp.chip_id": Text(
        "The report is of another processor than the certificate.",
        "Take the certificate for the report's CHIP_ID; the host must not mask it.",
    ),
    "sev-snp.signature": _SIGNATURE,
    "sev-snp.vmpl": Text(
        "A report that the host asked for speaks for the host.", "Have the guest ask for it (configfs-tsm)."
    ),
    "sev-snp.revocation": _REVOCATION,
    "sev-snp.binding": _BINDING,
    **{f"{kind}.{step}": text for kind in ("nitro", "nitrotpm") for step, text in _AWS.items()},
    "tdx.collateral": Text("What stands beside the quote is not Intel's collateral.", _INTEL),
    "tdx.root": _ROOT,
    "tdx.chain": _CHAIN,
    "tdx.pck": Text("The platform's certificate is not of Intel's form.", _GENUINE),
    "tdx.qe_report": Text("The platform did not vouch for the quoting enclave.", _GENUINE),
    "tdx.attestation_key": Text(
        "The quoting enclave did not vouch for the key that signed the quote.", _GENUINE
    ),
    "tdx.signature": _SIGNATURE,
    "tdx.tcb_info": Text(
        "Intel's word on the platform's levels is not here, not Intel's, or not in force.", _INTEL
    ),
    "tdx.qe_identity": Text(
        "Intel's word on the quoting enclave is not here, not Intel's, or not in force.", _INTEL
    ),
    "tdx.qe": Text(
        "The quoting enclave is not the one that Intel names.", "Have the platform's software updated."
    ),
    "tdx.module": Text(
        "The TDX module is not one that Intel names.", "Have the platform's firmware updated."
    ),
    "tdx.tcb": Text(
        "Intel knows no level that this platform reaches.",
        "Have the platform's firmware updated; fetch the collateral again.",
    ),
    "tdx.revocation": _REVOCATION,
    "tdx.event_log": _LOG,
    "tdx.binding": _BINDING,
    "gcp-vtpm.root": _ROOT,
    "gcp-vtpm.chain": _CHAIN,
    "gcp-vtpm.certificate": Text("The certificate does not name the instance as Google's do.", _GENUINE),
    "gcp-vtpm.ak": Text("Google certified another AK.", _GENUINE),
    "gcp-vtpm.revocation": _REVOCATION,
    "azure-vtpm.hardware": Text(
        "The hardware's report inside the evidence cannot be read.", "Look at it with `rlu inspect`."
    ),
    "azure-vtpm.runtime_data": Text("The hardware's report is about another AK or configuration.", _GENUINE),
    "azure-vtpm.vmpl": Text(
        "Only a report that the paravisor asked for speaks for its virtual TPM.", _GENUINE
    ),
    "azure-vtpm.td_report": Text(
        "The quote was made of another report than the one that names the AK.",
        "Collect both again, together.",
    ),
    "azure-vtpm.paravisor": Text(
        "The virtual TPM is as good as the paravisor that it lives in, and the policy does not name this one.",
        "Compare its measurement with what Microsoft publishes, and name it under [measurements.azure-vtpm].",
    ),
    "azure-vtpm.ak": Text("The hardware's report is about another AK.", _GENUINE),
    "gpu.attestation": Text(
        "Only the server vouches for its GPUs.",
        "Turn on confidential computing where the GPU has it; where it has none, the policy may waive the step.",
    ),
    "gpu.match": Text(
        "Other GPUs answered than the statement names.",
        "Have the attestor started again; if it stays so, ask the operator.",
    ),
    "nvidia.item": Text(
        "The GPUs' evidence cannot be read.", "Look at it with `rlu inspect`, and ask for it again."
    ),
    "nvidia.collateral": Text(
        "A file beside the evidence cannot be read.", "Fetch reference values and OCSP answers again."
    ),
    "nvidia.devices": Text(
        "Each device counts once, and switches only beside GPUs.",
        "Collect the evidence of all GPUs of the node.",
    ),
    "nvidia.root": _ROOT,
    "nvidia.chain": _CHAIN,
    "nvidia.identity": Text("The certificate does not name a device as NVIDIA's do.", _GENUINE),
    "nvidia.fwid": Text("The firmware that signed is not the one that was certified.", _GENUINE),
    "nvidia.signature": _SIGNATURE,
    "nvidia.rim_driver": _RIM,
    "nvidia.rim_vbios": _RIM,
    "nvidia.measurements": Text(
        "The device measured something else than NVIDIA published for its version.",
        "The detail names the measurement; update driver and VBIOS, and do not use the device before it agrees.",
    ),
    "nvidia.topology": Text(
        "GPUs and switches do not name one another.",
        "Collect the evidence of all devices of the node together.",
    ),
    "nvidia.revocation": Text(
        "Nobody can say that NVIDIA has not withdrawn a certificate.",
        "Staple OCSP answers while they are young: `rlu collateral fetch`, or --with ANSWER. Never trust a revoked device again.",
    ),
    "nvidia.binding": _BINDING,
}
"""Step → why it fails beside its cause, and what to do."""
