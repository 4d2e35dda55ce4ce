"""NVIDIA GPU and NVSwitch evidence (FORMATS section 4.5): parse, verify step by step, claims. One item is all devices of one node.

For the verifier:

 1. evidence = nvidia.parse(data)                                     # NvidiaEvidence: well-formed, nothing verified
 2. nvidia.verify_devices(evidence)                                   # step nvidia.devices: no device twice
 3. nvidia.verify_root(evidence, roots)                               # step nvidia.root         -> a Root a device
 4. nvidia.verify_chain(evidence, at)                                 # step nvidia.chain        -> a path a device
 5. identities = nvidia.verify_identity(evidence)                     # step nvidia.identity     -> an Identity a device
 6. fwids = nvidia.verify_fwid(evidence)                              # step nvidia.fwid         -> 48 bytes a device, None: does not apply
 7. nvidia.verify_signature(evidence)                                 # step nvidia.signature
 8. drivers = nvidia.verify_rim_driver(evidence, identities, at, roots)   # step nvidia.rim_driver -> a Rim a GPU; needs 5
 9. firmware = nvidia.verify_rim_vbios(evidence, identities, at, roots)   # step nvidia.rim_vbios  -> a Rim a device; needs 5
10. compared = nvidia.verify_measurements(evidence, drivers, firmware)    # step nvidia.measurements -> how many, a device; needs 8 and 9
11. topology = nvidia.verify_topology(evidence)                       # step nvidia.topology     -> Topology
12. nvidia.verify_revocation(evidence, at, max_age)                   # step nvidia.revocation   -> how many certificates
13. nvidia.verify_binding(evidence, binding)                          # step nvidia.binding
14. claims = nvidia.claims_of(evidence, identities, fwids, compared, topology)   # NvidiaClaims

or `claims = nvidia.verify(evidence, at, roots)`, which runs 2 to 11 and 14. Devices come in the order of `evidence.devices`: GPUs, then
switches; `roots` default to NVIDIA's. `from_parts` takes bare reports; `describe` gives rows for people; `encode` makes an item.
lxml is imported when the first RIM is read.
"""

from __future__ import annotations

from rlu_attestation.evidence.nvidia.claims import DeviceClaims, NvidiaClaims
from rlu_attestation.evidence.nvidia.describe import Row, describe, describe_report
from rlu_attestation.evidence.nvidia.endorsements import (
    verify_measurements,
    verify_revocation,
    verify_rim_driver,
    verify_rim_vbios,
)
from rlu_attestation.evidence.nvidia.identity import Identity
from rlu_attestation.evidence.nvidia.item import (
    KIND,
    Device,
    DeviceParts,
    NvidiaEvidence,
    encode,
    from_parts,
    parse,
)
from rlu_attestation.evidence.nvidia.ocsp import Response, SingleResponse, Status
from rlu_attestation.evidence.nvidia.ocsp import parse as parse_ocsp
from rlu_attestation.evidence.nvidia.opaque import DeviceKind, Feature, OpaqueData
from rlu_attestation.evidence.nvidia.report import Measurement, Report, parse_report
from rlu_attestation.evidence.nvidia.rim import ReferenceValue, Rim, parse_rim
from rlu_attestation.evidence.nvidia.roots import PINNED, Root, Roots
from rlu_attestation.evidence.nvidia.steps import (
    claims_of,
    verify,
    verify_binding,
    verify_chain,
    verify_devices,
    verify_fwid,
    verify_identity,
    verify_nonce,
    verify_root,
    verify_signature,
    verify_topology,
)
from rlu_attestation.evidence.nvidia.topology import Topology

__all__ = [
    "KIND",
    "PINNED",
    "Device",
    "DeviceClaims",
    "DeviceKind",
    "DeviceParts",
    "Feature",
    "Identity",
    "Measurement",
    "NvidiaClaims",
    "NvidiaEvidence",
    "OpaqueData",
    "ReferenceValue",
    "Report",
    "Response",
    "Rim",
    "Root",
    "Roots",
    "Row",
    "SingleResponse",
    "Status",
    "Topology",
    "claims_of",
    "describe",
    "describe_report",
    "encode",
    "from_parts",
    "parse",
    "parse_ocsp",
    "parse_report",
    "parse_rim",
    "verify",
    "verify_binding",
    "verify_chain",
    "verify_devices",
    "verify_fwid",
    "verify_identity",
    "verify_measurements",
    "verify_nonce",
    "verify_revocation",
    "verify_rim_driver",
    "verify_rim_vbios",
    "verify_root",
    "verify_signature",
    "verify_topology",
]
