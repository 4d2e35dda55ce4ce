"""Levels and statuses: what a platform reaches, what that comes to, and what a running update of the module changes."""

from __future__ import annotations

import itertools

import pytest

from fakes import intel
from fakes.intel import COMPONENTS, MODULE, level, svn_level
from fakes.pki import AT
from fakes.tdx_changes import (
    REPORT_DATA,
    V4,
    V15,
    both,
    genuine,
    identity,
    info,
    members,
    qe,
    quoted,
    svn,
)
from rlu_attestation import x509
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import Root, TcbStatus, TdxClaims, converge, relaunch

PLATFORM = [
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
]
WORSE = {
    "UpToDate": "OutOfDate",
    "SWHardeningNeeded": "OutOfDate",
    "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
}


def claims(*perturbs: object, platform: intel.Platform = V4) -> TdxClaims:
    parts = both(*perturbs)(genuine(platform))  # type: ignore[arg-type]
    return tdx.verify(tdx.parse(parts.item()), AT, [Root.of(x509.parse(intel.root().der))])


@pytest.mark.parametrize("status", PLATFORM)
def test_converging(status: str) -> None:
    platform = TcbStatus(status)
    assert converge(platform, TcbStatus.UP_TO_DATE) is platform
    assert converge(platform, TcbStatus.OUT_OF_DATE).value == WORSE.get(status, status)
    assert converge(platform, TcbStatus.REVOKED) is TcbStatus.REVOKED
    assert converge(TcbStatus.REVOKED, TcbStatus.UP_TO_DATE) is TcbStatus.REVOKED


@pytest.mark.parametrize(("launched", "current"), [*itertools.product(PLATFORM, PLATFORM)])
def test_relaunch(launched: str, current: str) -> None:
    found = relaunch(TcbStatus(launched), TcbStatus(current)).value
    if launched.startswith("OutOfDate") and not current.startswith("OutOfDate"):
        configuration = "ConfigurationNeeded" in launched or current.startswith("Configuration")
        assert found == "TDRelaunchAdvised" + ("ConfigurationNeeded" if configuration else "")
    else:
        assert found == launched


@pytest.mark.parametrize("status", PLATFORM)
def test_the_platforms_status_is_a_claim(status: str) -> None:
    found = claims(info(tcbLevels=[level(COMPONENTS, 13, (5, 0, 3), status)]))
    assert found.status.value == found.launch_status.value == found.current_status.value == status


def test_the_first_level_that_is_reached_counts() -> None:
    assert claims().status is TcbStatus.UP_TO_DATE
    older = claims(members(m2=V4.tcb((2, *COMPONENTS[1:]))))
    assert older.status is TcbStatus.OUT_OF_DATE
    assert older.advisory_ids == ("INTEL-SA-00837", "INTEL-SA-00960")
    assert older.tcb_date.isoformat() == "2023-08-09T00:00:00+00:00"
    assert claims(members(m2=V4.tcb(pcesvn=65535))).pce_svn == 65535


def test_each_component_must_be_reached_by_itself() -> None:
    for index, needed in enumerate(COMPONENTS):
        if not needed:
            continue
        lower = [255] * 16
        lower[index] = needed - 1
        only = info(tcbLevels=[level(COMPONENTS, 13, (5, 0, 3), "UpToDate"), level((), 0, (), "OutOfDate")])
        assert claims(only, members(m2=V4.tcb(lower))).status is TcbStatus.OUT_OF_DATE
        lower[index] = needed
        assert claims(only, members(m2=V4.tcb(lower))).status is TcbStatus.UP_TO_DATE


def test_module_and_quoting_enclave_drag_the_platform_down() -> None:
    older = claims(quoted(TEE_TCB_SVN=svn(5, 1, 3)))
    assert (older.status, older.advisory_ids) == (TcbStatus.OUT_OF_DATE, ("INTEL-SA-01036",))
    assert older.tcb.module.id == "TDX_01"
    older = claims(qe(ISVSVN=3))
    assert (older.status, older.advisory_ids) == (TcbStatus.OUT_OF_DATE, ("INTEL-SA-00837",))
    assert older.qe_svn == 3
    both_old = claims(
        quoted(TEE_TCB_SVN=svn(5, 1, 3)), qe(ISVSVN=3), members(m2=V4.tcb((2, *COMPONENTS[1:])))
    )
    assert both_old.advisory_ids == ("INTEL-SA-00837", "INTEL-SA-00960", "INTEL-SA-01036")


def test_modules_of_major_version_0_are_rated_by_the_platforms_levels() -> None:
    found = claims(quoted(TEE_TCB_SVN=svn(5, 0, 3)))
    assert (found.status, found.tcb.module.id, found.tcb.module.level) == (TcbStatus.UP_TO_DATE, "TDX", None)
    assert claims(quoted(TEE_TCB_SVN=svn(5, 0, 2))).status is TcbStatus.OUT_OF_DATE
    assert claims(quoted(TEE_TCB_SVN=svn(3, 3, 3))).tcb.module.id == "TDX_03"


def test_an_identity_is_found_in_lower_case_too() -> None:
    lower = [{"id": "tdx_0a", **MODULE, "tcbLevels": [svn_level(1, "UpToDate")]}]
    found = claims(info(tdxModuleIdentities=lower), quoted(TEE_TCB_SVN=svn(1, 10, 3)))
    assert found.tcb.module.id == "tdx_0a"


def test_a_td_under_an_updated_module_is_advised_to_relaunch() -> None:
    old, new = svn(5, 1, 3), svn(6, 1, 3)
    found = claims(quoted(V15, TEE_TCB_SVN=old, TEE_TCB_SVN_2=new), platform=V15)
    assert found.status is TcbStatus.TD_RELAUNCH_ADVISED
    assert (found.launch_status, found.current_status) == (TcbStatus.OUT_OF_DATE, TcbStatus.UP_TO_DATE)
    assert found.advisory_ids == ("INTEL-SA-01036",)
    needed = info(tcbLevels=[level(COMPONENTS, 13, (5, 0, 3), "ConfigurationNeeded")])
    found = claims(needed, quoted(V15, TEE_TCB_SVN=old, TEE_TCB_SVN_2=new), platform=V15)
    assert found.status is TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED


def test_a_module_that_went_back_shows() -> None:
    found = claims(quoted(V15, TEE_TCB_SVN=svn(6, 1, 3), TEE_TCB_SVN_2=svn(5, 1, 3)), platform=V15)
    assert (found.status, found.current_status) == (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE)


def test_an_outdated_quoting_enclave_is_not_cured_by_a_relaunch() -> None:
    found = claims(
        quoted(V15, REPORT_DATA, TEE_TCB_SVN=svn(5, 1, 3), TEE_TCB_SVN_2=svn(6, 1, 3)),
        identity(tcbLevels=[svn_level(7, "UpToDate"), svn_level(0, "OutOfDate")]),
        platform=V15,
    )
    assert found.status is TcbStatus.OUT_OF_DATE
