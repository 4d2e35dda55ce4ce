"""NVIDIA evidence: reports of every GPU and NVSwitch over one nonce, with reference values and OCSP answers of the collateral directory.

    <collateral>/nvidia/*.xml     reference integrity manifests (RIMs); those of the versions in the reports are stapled
    <collateral>/nvidia/*.ocsp    OCSP responses, DER; those about certificates in the item are stapled

GPUs answer through NVML. Switches are asked, through NSCQ, when the GPUs' reports name the switches that they are wired to, as they do in
protected PCIe mode; verifiers then want a report of each of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nvidia
from rlu_attestation.evidence.binding import SINGLE
from rlu_attestation.evidence.nvidia import DeviceKind, DeviceParts, Report, Rim, ocsp
from rlu_attestation.x509 import Certificate
from rlu_server.attestor.collect import collateral, nscq, nvml
from rlu_server.attestor.collect.collector import check_root
from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.platform import Evidence, evidence_of


@dataclass(frozen=True, slots=True)
class Collected:
    """What one device answered."""

    report: Report
    chain: tuple[Certificate, ...]

    @property
    def parts(self) -> DeviceParts:
        return DeviceParts(self.report.raw, tuple(certificate.raw for certificate in self.chain))


class NvidiaCollector:
    """Collector of `nvidia` items: all GPUs and NVSwitches of this machine in one.

    Args:
        directory: reference values and OCSP responses.
        library: NVML.
        switch_library: NSCQ.
    """

    kind = nvidia.KIND

    def __init__(
        self, directory: Path, library: str = nvml.LIBRARY, switch_library: str = nscq.LIBRARY
    ) -> None:
        self._directory = directory
        self._library = library
        self._switch_library = switch_library

    def collect(self, root: bytes) -> Evidence:
        """Evidence in which `root` is the nonce of every report.

        Raises:
            AttestorError: `nvml.…`, `nscq.…`, `nvidia.none`, `nvidia.report`, `nvidia.wiring`, `collateral.…`.
        """
        check_root(root)
        gpus = self._gpus(root)
        wired = any(gpu.report.opaque.switches for gpu in gpus)
        switches = self._switches(root) if wired else []
        _check_wiring(gpus, switches)
        devices = [*gpus, *switches]
        rims = self._rims([device.report for device in devices])
        responses = self._ocsp([*(device.chain for device in devices), *(rim.certificates for rim in rims)])
        return evidence_of(
            nvidia.encode(
                gpus=[gpu.parts for gpu in gpus],
                switches=[switch.parts for switch in switches],
                rims=[rim.raw for rim in rims],
                ocsp_der=responses,
                binding=SINGLE,
            )
        )

    def _gpus(self, root: bytes) -> list[Collected]:
        with nvml.opened(self._library) as opened:
            answers = [opened.attest(gpu.index, root) for gpu in opened.gpus()]
        if not answers:
            raise NotReady(
                "nvidia.none",
                'no GPU is visible to the attestor; pass the devices on, or set [attestation.gpu] evidence = "none"',
            )
        return [
            _collected(answer, root, DeviceKind.GPU, f"GPU {number}") for number, answer in enumerate(answers)
        ]

    def _switches(self, root: bytes) -> list[Collected]:
        with nscq.opened(self._switch_library) as opened:
            answers = [(name, opened.attest(name, root)) for name in opened.switches()]
        return [_collected(answer, root, DeviceKind.SWITCH, f"NVSwitch {name}") for name, answer in answers]

    def _rims(self, reports: Sequence[Report]) -> list[Rim]:
        """The first manifest of each product and version that a report names."""
        wanted = {version for report in reports for version in (report.opaque.driver, report.opaque.vbios)}
        found: dict[tuple[DeviceKind, str, str], Rim] = {}
        for path in self._files(".xml"):
            try:
                rim = nvidia.parse_rim(collateral.read(path))
            except NotReady:
                raise
            except RluError as error:
                raise NotReady("collateral.file", f"{path}: {error.message}; fetch it anew") from error
            if rim.version in wanted:
                found.setdefault((rim.kind, rim.product, rim.version), rim)
        return list(found.values())

    def _ocsp(self, chains: Sequence[Sequence[Certificate]]) -> list[bytes]:
        """Responses about a certificate of one of the chains."""
        pairs = [
            (chain[at], chain[min(at + 1, len(chain) - 1)]) for chain in chains for at in range(len(chain))
        ]
        found = []
        for path in self._files(".ocsp"):
            try:
                response = ocsp.parse(collateral.read(path))
            except NotReady:
                raise
            except RluError as error:
                raise NotReady("collateral.file", f"{path}: {error.message}; fetch it anew") from error
            if any(single.is_about(*pair) for single in response.singles for pair in pairs):
                found.append(response.raw)
        return found

    def _files(self, suffix: str) -> Iterator[Path]:
        return (path for path in collateral.files(self._directory) if path.suffix == suffix)


def _collected(answer: nvml.Answer, root: bytes, kind: DeviceKind, name: str) -> Collected:
    try:
        report = nvidia.parse_report(answer.report, kind)
        chain = x509.parse_many(answer.certificates.rstrip(b"\0"))
    except RluError as error:
        raise HardwareRefused(
            "nvidia.report", f"{name}: its report or certificates cannot be used: {error}"
        ) from error
    if report.nonce != root:
        raise HardwareRefused("nvidia.report", f"{name}: its report is over another nonce than was asked for")
    return Collected(report, chain)


def _check_wiring(gpus: Sequence[Collected], switches: Sequence[Collected]) -> None:
    """Refuse what verifiers would: devices that the others are wired to are missing."""
    evidence = nvidia.from_parts([gpu.parts for gpu in gpus], [switch.parts for switch in switches])
    try:
        nvidia.verify_topology(evidence)
    except RluError as error:
        raise HardwareRefused(
            "nvidia.wiring",
            f"{error.message}; pass all GPUs and NVSwitches of the node on (/dev/nvidia*, /dev/nvidia-nvswitch*)",
        ) from error
