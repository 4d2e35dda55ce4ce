"""What may stand side by side in the settings of the key and its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlu_server import settings as configuration
from rlu_server.settings import SettingsError


def load(**attestation: Any) -> configuration.Settings:
    return configuration.load(None, {}, {"state_dir": "/state", "attestation": attestation})


@pytest.mark.parametrize(
    ("given", "holder"),
    [
        ({}, "tpm2"),
        ({"key": "sev-snp"}, "sev-snp"),
        ({"key": "azure-vtpm"}, "azure-vtpm"),
        ({"insecure_software_key": True}, "none"),
        ({"insecure_software_key": True, "key": "none"}, "none"),
    ],
    ids=str,
)
def test_what_holds_the_key(given: dict[str, Any], holder: str) -> None:
    assert load(**given).attestation.holder == holder


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"key": "none"}, "insecure_software_key"),
        ({"key": "nitro", "insecure_software_key": True}, "contradicts"),
        ({"key": "sgx"}, "attestation.key"),
        ({"gpu": {"evidence": "nvidia"}}, "vendor"),
        ({"gpu": {"vendor": "amd", "evidence": "nvidia"}}, "vendor"),
        ({"gpu": {"vendor": "intel"}}, "attestation.gpu.vendor"),
        ({"gpu": {"count": 8}}, "attestation.gpu.count"),
    ],
    ids=str,
)
def test_what_refuses(given: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        load(**given)


def test_where_collateral_is() -> None:
    assert load().collateral_dir == Path("/state/collateral")
    assert load(collateral_dir="/elsewhere").collateral_dir == Path("/elsewhere")


def test_from_the_environment() -> None:
    variables = {"RLU_ATTESTATION__KEY": "tdx", "RLU_ATTESTATION__GPU__VENDOR": "nvidia"}
    found = configuration.load(None, variables).attestation
    assert (found.key, found.gpu.vendor, found.gpu.evidence) == ("tdx", "nvidia", "none")
