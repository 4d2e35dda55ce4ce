"""TDX evidence: a quote through configfs-tsm, with Intel's collateral from the collateral directory and the firmware's event log.

    <collateral>/tdx/collateral.json    TCB information, QE identity and revocation lists, as PCCS clients store them

Without it the item has none, and a verifier needs it from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from rlu_attestation.errors import RluError
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.binding import SINGLE
from rlu_server.attestor.collect import collateral
from rlu_server.attestor.collect.collector import check_root, read_bounded
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.errors import HardwareRefused, HardwareUnavailable, NotReady
from rlu_server.attestor.platform import Evidence, evidence_of

PROVIDER = "tdx_guest"
COLLATERAL = "collateral.json"
CCEL = Path("/sys/firmware/acpi/tables/data/CCEL")
MAX_EVENT_LOG, SLACK = 128 * 1024, 8
PADDING = bytes(32)
"""REPORTDATA has 64 bytes: the root, then these."""


class TdxCollector:
    """Collector of `tdx` items.

    Args:
        directory: where `collateral.json` is, or is not.
        event_log: the firmware's log.
    """

    kind = tdx.KIND

    def __init__(self, reports: TsmReports, directory: Path, event_log: Path = CCEL) -> None:
        self._reports = reports
        self._directory = directory
        self._event_log = event_log

    def collect(self, root: bytes) -> Evidence:
        """Evidence whose REPORTDATA is `root`.

        Raises:
            AttestorError: as `TsmReports.report`; `tdx.quote`, `tdx.raced`, `collateral.file`.
        """
        check_root(root)
        # Some hosts fill their buffer up.
        quote = tdx.trim(self._reports.report(PROVIDER, root + PADDING).outblob)
        try:
            parsed = tdx.parse_quote(quote)
        except RluError as error:
            raise HardwareRefused("tdx.quote", f"the quote cannot be used: {error}") from error
        if parsed.report.report_data != root + PADDING:
            raise HardwareUnavailable("tdx.raced", "the quote is over other data than was asked for")
        stapled = read_collateral(self._directory)
        log = read_event_log(self._event_log, quote)
        return evidence_of(tdx.encode(quote=quote, collateral=stapled, binding=SINGLE, event_log=log))


def read_event_log(path: Path, quote: bytes) -> bytes | None:
    """The firmware's log without the padding of its ACPI area; None unless it leads to the quoted RTMRs.

    It is a help to verifiers that ask for it. Where it cannot be read, or software extended an RTMR after the firmware, it would only be a
    failed check.
    """
    try:
        area = read_bounded(path, MAX_EVENT_LOG)
    except OSError:
        return None
    end = len(area.rstrip(b"\xff"))
    # The last event may itself end in such bytes.
    for log in (area[:size] for size in range(end, min(end + SLACK, len(area)) + 1)):
        try:
            tdx.verify_event_log(tdx.from_parts(quote, event_log=log))
        except RluError:
            continue
        return log
    return None


def read_collateral(directory: Path) -> tdx.Collateral | None:
    """Intel's collateral in a directory; None if it is not there.

    Raises:
        NotReady: it cannot be used (`collateral.file`).
    """
    path = directory / COLLATERAL
    if not path.exists():
        return None
    try:
        return tdx.collateral_from_json(collateral.read(path))
    except NotReady:
        raise
    except RluError as error:
        raise NotReady("collateral.file", f"{path}: {error.message}; fetch it anew") from error
