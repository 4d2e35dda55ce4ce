"""A policy file that accepts what `Deployment` is."""

from __future__ import annotations

import base64
from pathlib import Path

from fakes.machine import registrar, vendor_root


def pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"


POLICY = """
version = 1
pcrs = "any"
[trust]
ek_roots = ["vendor.pem"]
registrars = ["registrar.pem"]
unsafe_accept_emulated_tpm = {emulated}
[accept]
hardware_profiles = ["cpu-demo"]
regions = ["{region}"]
boundaries = "any"
sites = "any"
models = "any"
engines = "any"
engine_arguments = "any"
gateways = "any"
gateway_images = "any"
debug_states = ["disabled"]
[channel]
origins = ["gateway-memory"]
[lock]
attestor = "any"
engine = "any"
gateway = "any"
[minimum_source]
default = "asserted"
region = "endorsed"
"""


def write_policy(directory: Path, region: str = "eu-central-1", emulated: str = "false") -> Path:
    (directory / "vendor.pem").write_text(pem(vendor_root().der))
    (directory / "registrar.pem").write_text(pem(registrar().der))
    path = directory / "policy.toml"
    path.write_text(POLICY.format(region=region, emulated=emulated))
    return path
