"""TCB statuses, and how those of platform, TDX module and quoting enclave become one.

Source: Intel PCS API version 4 ("tcbStatus"), and Intel's Quote Verification Library, whose sections 4.1.2.4.17 (converging statuses) and
`checkForRelaunch` this follows. Statuses are claims for a policy to judge; only `Revoked` fails by itself.
"""

from __future__ import annotations

import enum

from rlu_attestation.errors import Unsupported


class TcbStatus(str, enum.Enum):
    """What Intel says of a TCB, in its words."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    REVOKED = "Revoked"


_RELAUNCH = frozenset({TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED})
LEVEL_STATUSES = frozenset(TcbStatus) - _RELAUNCH
"""Of a platform's level."""
SVN_STATUSES = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
"""Of a level of a TDX module or quoting enclave."""

_CONFIGURATION = frozenset({TcbStatus.CONFIGURATION_NEEDED, TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED})
_CURRENT = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED}) | _CONFIGURATION
_OUT_OF_DATE = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})


def status_of(text: str, allowed: frozenset[TcbStatus], code: str) -> TcbStatus:
    """The status of this name.

    Raises:
        Unsupported: not one of those allowed here (`code`).
    """
    for status in allowed:
        if status.value == text:
            return status
    raise Unsupported(code, f"TCB status {text!r} is not known here")


def converge(platform: TcbStatus, other: TcbStatus) -> TcbStatus:
    """The status of a platform together with that of its TDX module or quoting enclave."""
    if TcbStatus.REVOKED in (platform, other):
        return TcbStatus.REVOKED
    if other is TcbStatus.OUT_OF_DATE and platform in _CURRENT:
        return (
            TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
            if platform in _CONFIGURATION
            else TcbStatus.OUT_OF_DATE
        )
    return platform


def relaunch(launched: TcbStatus, current: TcbStatus) -> TcbStatus:
    """The status of a TD that was launched under one TCB and now runs under another.

    An outdated launch under what is by now a current TDX module is cured by launching the TD again.
    """
    if launched not in _OUT_OF_DATE or current not in _CURRENT:
        return launched
    if launched is TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED or current in _CONFIGURATION:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED
