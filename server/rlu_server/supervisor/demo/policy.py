"""The demo's policy: what a relying party would write, with what this demo knows about itself filled in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the policy names; every value is also in the instance statement."""

    ek_roots: Sequence[Path]
    registrar: Path
    region: str
    boundary: str
    site: str
    hardware_profile: str
    model: str
    """Digest of the manifest, base64url."""
    model_signer: str
    """Key id of who signed it, base64url."""
    engine: str
    """`name/version`."""
    engine_arguments: str
    gateway: str
    origin: str
    """Where the TLS key was born, or `plaintext`."""
    engine_network: str
    """What the engine measures as `network`."""


def text(expected: Expected) -> str:
    """The TOML file."""
    value = json.dumps  # TOML's basic strings are JSON's
    roots = ", ".join(value(str(path)) for path in expected.ek_roots)
    return f"""\
# The demo's policy: what `rlu verify` accepts here. Written anew at every start of `rlu demo`; attestation/policy.example.toml
# explains every key. It refuses by default: what is not named is not accepted.
version = 1

# All PCRs of an emulated TPM are zero: nothing measured a boot into it. On real machines, name the values of your firmware and kernel.
[pcrs.sha256]
{chr(10).join(f'{number} = ["{"0" * 64}"]' for number in range(8))}

[trust]
# The emulator's own CA, made on this very disk. On real machines: the TPM vendors' CAs.
ek_roots = [{roots}]
# Who checked that this TPM is the machine's, and where the machine stands.
registrars = [{value(str(expected.registrar))}]
# These two make every verdict here "verified except for waivers" (exit code 11): an emulated TPM proves the mechanism, not the machine.
unsafe_accept_emulated_tpm = true
unsafe_accept_unverified_boot = true

[time]
max_statement_age_s = 300
clock_skew_s = 60

# Who may sign models: without a signature of theirs over exactly its files, no model is accepted.
[model]
signers = [{value(expected.model_signer)}]

[accept]
hardware_profiles = [{value(expected.hardware_profile)}]
regions = [{value(expected.region)}]
boundaries = [{value(expected.boundary)}]
sites = [{value(expected.site)}]
# Digest over every file of the model; one changed byte of the weights is another model.
models = [{value(expected.model)}]
engines = [{value(expected.engine)}]
engine_arguments = [{value(expected.engine_arguments)}]
gateways = [{value(expected.gateway)}]
gateway_images = "any"
debug_states = ["enabled"]

[channel]
# The TLS key was made in the gateway's memory; the connection must show that very key.
origins = [{value(expected.origin)}]

# What each process measured of its own lock, by trying. See server/DESIGN.md.
[lock.attestor]
{_LOCK}
tcp_connect = false
execute_programs = false

[lock.gateway]
{_LOCK}
tcp_connect = false
execute_programs = false

[lock.engine]
{_LOCK}
network = {value(expected.engine_network)}

# How a claim must be known at least. On a laptop most are what our own process says ("asserted"); the registrar signed the place.
[minimum_source]
default = "asserted"
region = "endorsed"
boundary = "endorsed"
site = "endorsed"
"""


_LOCK = """\
read_outside = false
write_outside_scratch = false
no_new_privileges = true
call_filter = true
capabilities = "none"
core_limit = [0, 1]
dumpable = false
swap = ["off", "cgroup-off", "zram"]
scratch = ["tmpfs-noswap", "tmpfs"]"""
