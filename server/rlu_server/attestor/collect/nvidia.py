"""NVIDIA evidence: a report of every GPU over one nonce, through NVML, with reference values and OCSP answers of the collateral directory.

    <collateral>/nvidia/*.xml     reference integrity manifests (RIMs); those of the versions in the reports are stapled
    <collateral>/nvidia/*.ocsp    OCSP responses, DER; those about certificates in the item are stapled

Not here: NVSwitches. Their reports come from `libnvidia-nscq`, for which NVIDIA publishes no interface.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nvidia
from rlu_attestation.evidence.binding import SINGLE
from rlu_attestation.evidence.nvidia import DeviceKind, DeviceParts, Report, Rim, ocsp
from rlu_attestation.x509 import Certificate
from rlu_server.attestor.collect import collateral, nvml
from rlu_server.attestor.collect.collector import check_root
from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.platform import Evidence, evidence_of


class NvidiaCollector:
    """Collector of `nvidia` items: all GPUs of this machine in one.

    Args:
        directory: reference values and OCSP responses.
        library: NVML.
    """

    kind = nvidia.KIND

    def __init__(self, directory: Path, library: str = nvml.LIBRARY) -> None:
        self._directory = directory
        self._library = library

    def collect(self, root: bytes) -> Evidence:
        """Evidence in which `root` is the nonce of every report.

        Raises:
            AttestorError: `nvml.…`, `nvidia.none`, `nvidia.report`, `collateral.…`.
        """
        check_root(root)
        with nvml.opened(self._library) as opened:
            answers = [opened.attest(gpu.index, root) for gpu in opened.gpus()]
        if not answers:
            raise NotReady(
                "nvidia.none",
                'no GPU is visible to the attestor; pass the devices on, or set [attestation.gpu] evidence = "none"',
            )
        reports, chains = [], []
        for number, answer in enumerate(answers):
            reports.append(_report(answer.report, root, number))
            chains.append(_chain(answer.certificates, number))
        rims = self._rims(reports)
        signers = [rim.certificates for rim in rims]
        responses = self._ocsp([*chains, *signers])
        gpus = [
            DeviceParts(answer.report, tuple(c.raw for c in chain))
            for answer, chain in zip(answers, chains, strict=True)
        ]

        return evidence_of(
            nvidia.encode(gpus=gpus, rims=[rim.raw for rim in rims], ocsp_der=responses, binding=SINGLE)
        )

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


def _report(data: bytes, root: bytes, number: int) -> Report:
    try:
        report = nvidia.parse_report(data, DeviceKind.GPU)
    except RluError as error:
        raise HardwareRefused("nvidia.report", f"GPU {number}: its report cannot be used: {error}") from error
    if report.nonce != root:
        raise HardwareRefused(
            "nvidia.report", f"GPU {number}: its report is over another nonce than was asked for"
        )
    return report


def _chain(data: bytes, number: int) -> tuple[Certificate, ...]:
    try:
        return x509.parse_many(data.rstrip(b"\0"))
    except RluError as error:
        raise HardwareRefused(
            "nvidia.report", f"GPU {number}: its certificates cannot be used: {error}"
        ) from error
