"""A key broker in memory with a vault on disk, and instances on every fake TEE that ask it.

    room = BrokerRoom(tmp_path)
    key = room.ask("sev-snp")

`AT` is the broker's time. Policies name the measurements of the fakes, so that everything is genuine and accepted unless a test says
otherwise.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fakes import amd, aws, azure, intel, nvidia
from fakes.deployment import AT
from fakes.machine import Machine
from fakes.policy import pem
from fakes.tee import CHIP, ENCLAVE, ITEMS, MACHINES, NODE, PLATFORM, VM, padded
from rlu_attestation.evidence import nitro, sev_snp, tdx
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.models import Software
from rlu_server.broker import protocol
from rlu_server.broker.desk import Desk
from rlu_server.broker.journal import Journal
from rlu_server.broker.protocol import Claims
from rlu_server.broker.vault import ModelKey, Vault

KINDS = ("sev-snp", "tdx", "nitro", "nitrotpm", "azure-vtpm on sev-snp", "azure-vtpm on tdx")
"""TEEs that measure their software."""
MANIFEST = hashlib.sha256(b"manifest").digest()
ROOTS = {
    "sev-snp": amd.ark("Milan").der,
    "tdx": intel.root().der,
    "nitro": aws.root().der,
    "nitrotpm": aws.root().der,
    "nvidia": nvidia.device_root().der,
    "nvidia-rim": nvidia.rim_root().der,
}


def evidence(kind: str, root: bytes = bytes(32)) -> bytes:
    """An item that is about `root`; of kinds with a TPM, whose root is made from a binding, see `items`."""
    return ITEMS[kind](root)


def items(kind: str, claims: bytes, gpus: bool = False) -> dict[str, bytes]:
    """Genuine evidence of one instance for one request."""
    bound = hashlib.sha256(b"rlu/key-request/v1" + claims).digest()
    name = kind.partition(" ")[0]
    made = Machine if kind == "tpm2" else MACHINES.get(kind)
    found = {name: ITEMS[kind](leaf_hash(bound)) if made is None else made().evidence(bound)}
    if gpus:
        found["nvidia"] = NODE.parts(leaf_hash(bound)).item()
    return found


def _snp(report: bytes) -> str:
    return f'measurement = ["{sev_snp.parse_report(report).measurement.hex()}"]'


def _tdx(quote: bytes, names: tuple[str, ...]) -> str:
    report = tdx.parse_quote(quote).report
    values = {"mr_td": report.mr_td, "rtmr1": report.rtmr[1], "rtmr2": report.rtmr[2]}
    return "\n".join(f'{name} = ["{values[name].hex()}"]' for name in names)


def measurements(kind: str) -> str:
    """The tables that say which software may have a key."""
    if kind == "sev-snp":
        return f"[measurements.sev-snp]\n{_snp(CHIP.report(bytes(64)))}"
    if kind == "tdx":
        return f"[measurements.tdx]\n{_tdx(PLATFORM.quote(bytes(64)).data, ('mr_td', 'rtmr1', 'rtmr2'))}"
    if kind in ("nitro", "nitrotpm"):
        module, pcr = (ENCLAVE, 0) if kind == "nitro" else (VM, 4)
        pcrs = nitro.parse(aws.parts(module, bytes(32)).item()).document.pcrs
        return f'[measurements.{kind}]\npcr{pcr} = ["{pcrs[pcr].hex()}"]'
    below = kind.rpartition(" ")[2]
    inner = (
        _snp(azure.CHIP.report(bytes(64)))
        if below == "sev-snp"
        else _tdx(azure.PLATFORM.quote(bytes(64)).data, ("mr_td",))
    )
    boot = MACHINES[kind]().tpm.values({"sha256": (4,)})["sha256"][4].hex()
    return f'[measurements.azure-vtpm]\n{inner}\n[pcrs.sha256]\n4 = ["{boot}"]'


def policy(kind: str, top: str = "", measured: str | None = None, waive: str = "") -> str:
    """A vendor's policy for keys, in TOML."""
    roots = ", ".join(f'{name} = ["{name}.pem"]' for name in ROOTS)
    named = measurements(kind) if measured is None else measured
    return f"""version = 1
{top}
{named}
[tcb]
sev-snp = "any"
tdx = "any"
[accept]
debug_states = ["disabled"]
[trust]
roots = {{ {roots} }}
{waive}
"""


@dataclass
class BrokerRoom:
    """A broker whose clock stands at `now`."""

    directory: Path
    kind: str = "sev-snp"
    now: float = float(AT)
    manifest: bytes = MANIFEST
    told: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vault = Vault(self.directory / "vault")
        self.key = ModelKey(os.urandom(32), self.manifest, "demo")
        self.vault.add(self.key)
        for name, der in ROOTS.items():
            (self.vault.directory / f"{name}.pem").write_text(pem(der))
        self.set_policy(policy(self.kind))
        self.monotonic = 1000.0
        self.journal = Journal(self.vault.journal)
        self.desk = self.new_desk()

    def new_desk(self) -> Desk:
        """A broker that was just started, with the same vault and journal."""
        return Desk(
            self.vault,
            self.journal,
            lambda: self.now,
            lambda: self.monotonic,
            os.urandom,
            lambda event, code: self.told.append((event, code)),
        )

    def set_policy(self, text: str, name: str = "policy.toml") -> None:
        (self.vault.directory / name).write_text(text)

    def claims(self, private: X25519PrivateKey, **changes: bytes) -> Claims:
        values = {
            "challenge": protocol.parse_challenge(self.desk.challenge()),
            "public_key": private.public_key().public_bytes_raw(),
            "kid": self.key.kid,
            "manifest": self.manifest,
        }
        return Claims(**(values | changes), software=Software("rlu", "0.1.0"))

    def ask(
        self,
        kind: str | None = None,
        change: Callable[[dict[str, bytes]], Mapping[str, bytes]] = lambda found: found,
        gpus: bool = False,
        **changes: bytes,
    ) -> bytes:
        """What an instance gets out of the broker; `change` sees its evidence first."""
        private = X25519PrivateKey.generate()
        claims = self.claims(private, **changes)
        encoded = claims.encode()
        made = change(items(kind or self.kind, encoded, gpus))
        answer = self.desk.release(protocol.encode_request(encoded, made), "192.0.2.7")
        return protocol.open_key(answer, claims, private)

    def close(self) -> None:
        self.journal.close()


def snp_now(root: bytes) -> dict[str, bytes]:
    """SEV-SNP evidence for a broker by the real clock: the revocation list of the fakes would be over one day."""
    now = datetime.now(timezone.utc)
    crl = amd.ark("Milan").revoke(this_update=now - timedelta(days=1), next_update=now + timedelta(days=1))
    return {"sev-snp": replace(amd.parts(CHIP, padded(root)), crl=crl).item()}
