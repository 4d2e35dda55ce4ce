"""The policy's rules on hardware: reference values, security versions, GPUs, profiles and roots.

Reference values may stand in files of their own, which `rlu policy init` writes and a person reviews: `references` of the policy names
them, and what several of them list is accepted alike.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.instance import KEY_HARDWARE
from rlu_attestation.policy import ANY_GPU, ANY_TCB, GpuRule, PolicyError, TcbRule
from rlu_attestation.policy_table import ReadFile, Table, certificates
from rlu_attestation.profiles import BUILT_IN, GpuDemand, Profile

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10 only
    import tomli as tomllib

VERSION = 1
MAX_REFERENCES = 1024 * 1024
HAZARDS = ("lower-vmpl", "migration", "performance-monitoring", "provisional-firmware", "sept-ve-enabled")
MEASURED = ("azure-vtpm", "nitro", "nitrotpm", "sev-snp", "tdx")
ROOTS = ("gcp-vtpm", "nitro", "nitrotpm", "nvidia", "nvidia-rim", "sev-snp", "tdx")
SNP_LINES = ("genoa", "milan", "turin")
SNP_COMPONENTS = ("boot_loader", "microcode", "snp", "tee")
_MAX_LEVEL = 255
_SNP_VALUES = {
    "measurement": 48,
    "host_data": 32,
    "id_key_digest": 48,
    "author_key_digest": 48,
    "family_id": 16,
    "image_id": 16,
}
_TDX_VALUES = dict.fromkeys(
    ("mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mr_seam", "mr_config_id", "mr_owner", "mr_owner_config"),
    48,
)
_NITRO_VALUES = {f"pcr{number}": 48 for number in range(32)}
VALUES: Mapping[str, Mapping[str, int]] = {
    "azure-vtpm": {**_SNP_VALUES, **_TDX_VALUES},
    "nitro": _NITRO_VALUES,
    "nitrotpm": _NITRO_VALUES,
    "sev-snp": _SNP_VALUES,
    "tdx": _TDX_VALUES,
}
"""Measurements that a kind of evidence has, with their sizes in bytes."""
TDX_STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
)
_PCR_BANKS = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
_PCR_NUMBERS = {str(number): number for number in range(24)}

Pcrs = Mapping[str, Mapping[int, frozenset[bytes]]]
Measurements = Mapping[str, Mapping[str, frozenset[bytes]] | None]


def roots(trust: Table, read_file: ReadFile) -> Mapping[str, tuple[x509.Certificate, ...]]:
    """`trust.roots`: certificates by kind of evidence."""
    table = trust.table("roots")
    found = {kind: certificates(table, kind, read_file) for kind in ROOTS if kind in table}
    table.end()
    return found


def tcb(top: Table) -> Mapping[str, TcbRule]:
    """`tcb`: by kind of evidence."""
    table, found = top.table("tcb"), {}
    for kind in ("sev-snp", "tdx"):
        if table.is_any(kind):
            found[kind] = ANY_TCB
        elif kind in table:
            rule = table.table(kind)
            found[kind] = _snp(rule) if kind == "sev-snp" else _tdx(rule)
            rule.end()
    table.end()
    # What Azure's virtual TPM rests on is one of the two.
    return found


def _snp(rule: Table) -> TcbRule:
    minimum: dict[str, Mapping[str, int]] = {}
    for line in SNP_LINES:
        if line in rule:
            levels = rule.table(line)
            names = (*SNP_COMPONENTS, "fmc") if line == "turin" else SNP_COMPONENTS
            minimum[line] = {name: levels.whole(name, 0, 0, _MAX_LEVEL) for name in names if name in levels}
            levels.end()
            if not minimum[line]:
                raise rule.wrong(line, f"must name a least version of {', '.join(names)}")
    return TcbRule(minimum=minimum)


def _tdx(rule: Table) -> TcbRule:
    return TcbRule(
        statuses=None if rule.is_any("statuses") else frozenset(rule.choices("statuses", TDX_STATUSES)),
        advisories=rule.accepted("advisories"),
        evaluation=rule.whole("evaluation", 0),
    )


def gpus(top: Table) -> GpuRule | None:
    """`gpu`."""
    if top.is_any("gpu"):
        return ANY_GPU
    if "gpu" not in top:
        return None
    table = top.table("gpu")
    rule = GpuRule(
        count=table.whole("count", 1, 1) if "count" in table else None,
        memory_mib=table.whole("memory_mib", 0),
        names=table.accepted("names"),
        drivers=table.accepted("drivers"),
        vbios=table.accepted("vbios"),
        modes=table.accepted("modes"),
    )
    table.end()
    return rule


def profiles(top: Table) -> Mapping[str, Profile]:
    """`profiles`: an operator's own configurations."""
    table, found = top.table("profiles"), {}
    for name in table.names():
        if name in BUILT_IN:
            raise table.wrong(name, "is built in, and says the same to everybody: choose another name")
        own = table.table(name)
        demand = None
        if "gpus" in own:
            gpu = own.table("gpus")
            demand = GpuDemand(
                count=gpu.whole("count", 0, 1),
                names=gpu.strings("names"),
                memory_mib=gpu.whole("memory_mib", 0),
            )
            gpu.end()
            if not demand.names:
                raise own.wrong(
                    "gpus.names", "must hold the beginnings of product names, such as NVIDIA H100"
                )
        keys = own.choices("keys", KEY_HARDWARE)
        if not keys:
            raise own.wrong("keys", f"must hold what may speak for the key: {', '.join(KEY_HARDWARE)}")
        found[name] = Profile(keys=keys, gpus=demand, unattested=own.strings("unattested"))
        own.end()
    table.end()
    return found


def reference_values(top: Table, read_file: ReadFile) -> tuple[Pcrs | None, Measurements]:
    """`pcrs` and `measurements`, of the policy and of the files it names."""
    tables = [top, *(_references(top, name, read_file) for name in top.strings("references"))]
    every = [(_pcrs(table), _measurements(table)) for table in tables]
    for table, (pcrs, measured) in zip(tables[1:], every[1:], strict=True):
        table.end()
        if pcrs is None or None in measured.values():
            raise PolicyError(
                "policy.value", f'{table.name} names reference values; "any" is for the policy itself to say'
            )
    banks = [found for found, _ in every]
    kinds = [found for _, found in every]
    return (
        None if any(found is None for found in banks) else _merged(banks),
        {
            kind: _merged_kind(found[kind] for found in kinds if kind in found)
            for kind in MEASURED
            if any(kind in f for f in kinds)
        },
    )


def _references(top: Table, name: str, read_file: ReadFile) -> Table:
    try:
        value = tomllib.loads(read_file(name).decode("utf-8"))
    except (RluError, OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "message", None) or getattr(error, "strerror", None) or "not TOML in UTF-8"
        raise PolicyError("policy.references", f"references: {name}: {reason}") from error
    table = Table(value, name)
    if table.take("version", None) != VERSION:
        raise table.wrong("version", f"must be {VERSION}")
    return table


def _merged(banks: Iterable[Pcrs | None]) -> Pcrs:
    found: dict[str, dict[int, frozenset[bytes]]] = {}
    for bank, values in ((bank, values) for every in banks for bank, values in (every or {}).items()):
        for number, accepted in values.items():
            found.setdefault(bank, {})[number] = accepted | found.get(bank, {}).get(number, frozenset())
    return found


def _merged_kind(
    lists: Iterable[Mapping[str, frozenset[bytes]] | None],
) -> Mapping[str, frozenset[bytes]] | None:
    found: dict[str, frozenset[bytes]] = {}
    for values in lists:
        if values is None:
            return None
        for name, accepted in values.items():
            found[name] = accepted | found.get(name, frozenset())
    return found


def _measurements(table: Table) -> Measurements:
    kinds = table.table("measurements")
    found: dict[str, Mapping[str, frozenset[bytes]] | None] = {}
    for kind in MEASURED:
        if kinds.is_any(kind):
            found[kind] = None
        elif kind in kinds:
            values = kinds.table(kind)
            sizes = VALUES[kind]
            named = found[kind] = {
                name: values.binaries(name, sizes[name]) for name in sizes if name in values
            }
            values.end()
            if not named:
                raise kinds.wrong(kind, 'must name measurements, or be "any"')
    kinds.end()
    return found


def _pcrs(top: Table) -> Pcrs | None:
    if top.is_any("pcrs"):
        return None
    found: dict[str, Mapping[int, frozenset[bytes]]] = {}
    banks = top.table("pcrs")
    for bank in _PCR_BANKS:
        values = banks.table(bank)
        numbers = [number for number in _PCR_NUMBERS if number in values]
        found[bank] = {_PCR_NUMBERS[n]: _pcr_values(values, n, _PCR_BANKS[bank]) for n in numbers}
        values.end()
    banks.end()
    return {bank: values for bank, values in found.items() if values}


def _pcr_values(values: Table, number: str, size: int) -> frozenset[bytes]:
    texts = values.strings(number)
    try:
        found = frozenset(bytes.fromhex(text) for text in texts)
    except ValueError:
        found = frozenset()
    if not found or any(len(value) != size for value in found):
        raise values.wrong(number, f"must be an array of values of {size} bytes in hexadecimal")
    return found
