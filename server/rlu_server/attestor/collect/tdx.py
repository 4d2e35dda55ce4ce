"""TDX evidence: a quote through configfs-tsm, with Intel's collateral from the collateral directory.

    <collateral>/tdx/collateral.json    TCB information, QE identity and revocation lists, as PCCS clients store them

Without it the item has none, and a verifier needs it from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from rlu_attestation.errors import RluError
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.binding import SINGLE
from rlu_server.attestor.collect import collateral
from rlu_server.attestor.collect.collector import check_root
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.errors import HardwareRefused, HardwareUnavailable, NotReady
from rlu_server.attestor.platform import Evidence, evidence_of

PROVIDER = "tdx_guest"
COLLATERAL = "collateral.json"
PADDING = bytes(32)
"""REPORTDATA has 64 bytes: the root, then these."""


class TdxCollector:
    """Collector of `tdx` items.

    Args:
        directory: where `collateral.json` is, or is not.
    """

    kind = tdx.KIND

    def __init__(self, reports: TsmReports, directory: Path) -> None:
        self._reports = reports
        self._directory = directory

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

        return evidence_of(tdx.encode(quote=quote, collateral=stapled, binding=SINGLE))


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
