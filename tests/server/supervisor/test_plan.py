"""Facts, settings and locks as values."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployment import make_settings
from hypothesis import given
from hypothesis import strategies as st

from rlu_server import settings as configuration
from rlu_server.lock import profiles
from rlu_server.lock.profiles import Additions, User
from rlu_server.settings import Settings
from rlu_server.supervisor import facts, models, plan, prepare
from rlu_server.supervisor.errors import Misconfigured, Unavailable
from rlu_server.supervisor.plan import Host
from rlu_server.supervisor.runtime import Runtime

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
RUNTIME = Runtime(Path("/run/rlu-x"), mounted=False)
HOST = Host(Path("/usr/bin/python3"), {"TZ": "UTC", "SECRET": "x", "LD_PRELOAD": "x"}, 42)


def test_the_example_names_every_setting_with_its_default() -> None:
    text = (ROOT / "server" / "rlu.example.toml").read_text()
    assert configuration.load(ROOT / "server" / "rlu.example.toml", {}) == Settings()
    for name, section in Settings().model_dump().items():
        assert name in text
        for key in section if isinstance(section, dict) else ():
            assert f"\n{key} = " in text or f"\n# {key} = " in text, f"{name}.{key}"


def test_settings_survive_the_way_to_the_processes(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, environment={"OMP_NUM_THREADS": "4"}, arguments=["--seed", "1"])
    file = tmp_path / "written.toml"
    file.write_text(facts.toml(settings))
    assert configuration.load(file, {}) == settings


text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


@given(values)
def test_toml_reads_back(value: Any) -> None:
    assert tomllib.loads(f"x = {facts._value(value)}")["x"] == value


@pytest.mark.parametrize(
    ("tcti", "device", "ports"),
    [
        ("device:/dev/tpmrm0", Path("/dev/tpmrm0"), ()),
        ("device", Path("/dev/tpmrm0"), ()),
        ("swtpm:path=/a/b", None, ()),
        ("swtpm:host=127.0.0.1,port=3000", None, (3000, 3001)),
        ("mssim:port=3000,host=x", None, (3000, 3001)),
        ("swtpm:", None, (2321, 2322)),
        ("tabrmd:", None, ()),
    ],
)
def test_tpm_places(tcti: str, device: Path | None, ports: tuple[int, ...]) -> None:
    assert plan.tpm_device(tcti) == device
    assert plan.tpm_ports(tcti) == ports


def test_processes_inherit_nothing(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    for program in (plan.attestor(settings, RUNTIME, HOST, 0), plan.gateway(settings, RUNTIME, HOST, 0)):
        assert "SECRET" not in program.environment
        assert "LD_PRELOAD" not in program.environment
        assert program.environment["TZ"] == "UTC"
        profile = profiles.compose(program.role, program.additions)
        assert profile["environment"]["set"] == program.environment


def test_gateway_may_listen_on_one_port_and_connect_nowhere(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    settings = settings.model_copy(update={"gateway": settings.gateway.model_copy(update={"port": 9443})})
    profile = profiles.compose("gateway", plan.gateway(settings, RUNTIME, HOST, 0).additions)
    assert profile["landlock"]["tcp"] == {"bind": [9443], "connect": []}


def test_attestor_has_no_sockets_but_its_own(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    profile = profiles.compose("attestor", plan.attestor(settings, RUNTIME, HOST, 0).additions)
    assert profile["seccomp"]["sockets"] == ["unix"]
    assert profile["landlock"]["tcp"] == {"bind": [], "connect": []}


def test_users_of_their_own(tmp_path: Path) -> None:
    settings = configuration.load(None, {}, {"lock": {"uids": {"attestor": 1, "engine": 2, "gateway": 3}}})
    assert plan.users(settings, HOST) == {
        "attestor": User(1, 1, (42,)),
        "engine": User(2, 2),
        "gateway": User(3, 3),
    }
    attestor = plan.attestor(settings, RUNTIME, HOST, 0)
    assert attestor.arguments[-2:] == ("--allow-uid", "3")
    profile = profiles.compose("attestor", attestor.additions)
    assert profile["user"] == {"uid": 1, "gid": 1, "groups": [42]}
    assert profile["other_users"] == [2, 3]


def test_one_role_alone_stays_who_it_is_and_knows_the_others() -> None:
    settings = configuration.load(None, {}, {"lock": {"uids": {"attestor": 1, "engine": 2, "gateway": 3}}})
    host = replace(HOST, alone=True)
    assert plan.users(settings, host) == dict.fromkeys(plan.ROLES)
    attestor = plan.attestor(settings, RUNTIME, host, 1)
    assert attestor.arguments[-2:] == ("--allow-uid", "3")
    profile = profiles.compose("attestor", attestor.additions)
    assert "user" not in profile
    assert profile["other_users"] == [2, 3]
    # A root of its own would take a user namespace, and there the gateway looks like everybody else.
    assert "mounts" not in profile
    assert "mounts" in profiles.compose("gateway", plan.gateway(settings, RUNTIME, host, 3).additions)
    together = plan.attestor(settings, RUNTIME, HOST, 0)
    assert "mounts" in profiles.compose("attestor", together.additions)


def test_what_is_waived_is_only_what_was_named() -> None:
    full = profiles.packaged("engine")["require"]
    swap = profiles.compose("engine", Additions(allow_swap=True))["require"]
    assert full.keys() - swap.keys() == {"swap"}
    shared = profiles.compose("engine", Additions(shared_network=True))["require"]
    assert full.keys() - shared.keys() == {"network", "ipc"}
    none = profiles.compose("engine", Additions(minimum_abi=0))["require"]
    assert full.keys() - none.keys() == set(profiles.LANDLOCK_CLAIMS) & full.keys()
    memory = profiles.compose("engine", Additions(require_private_memory=True))["require"]
    assert memory["shared_memory"] == "private"


def test_unknown_profiles_are_misuse() -> None:
    with pytest.raises(ValueError):
        profiles.packaged("../engine")


def test_hub_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        @staticmethod
        def snapshot_download(repo_id: str, local_dir: str, ignore_patterns: list[str]) -> None:
            assert repo_id == "owner/name"
            assert "*.bin" in ignore_patterns
            (Path(local_dir) / ".cache").mkdir(parents=True)
            (Path(local_dir) / "config.json").write_text("{}")

    monkeypatch.setattr(models.importlib, "import_module", lambda name: Hub)
    fetched = models.directory("owner/name", tmp_path)
    assert fetched == tmp_path / "models" / "owner--name"
    assert [p.name for p in fetched.iterdir()] == ["config.json"]
    monkeypatch.setattr(models.importlib, "import_module", lambda name: pytest.fail("fetched again"))
    assert models.directory("owner/name", tmp_path) == fetched


def test_a_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        @staticmethod
        def snapshot_download(**_: object) -> None:
            raise ConnectionError("no route")

    monkeypatch.setattr(models.importlib, "import_module", lambda name: Hub)
    with pytest.raises(Unavailable, match="copy its directory here"):
        models.directory("owner/name", tmp_path)
    assert not (tmp_path / "models" / "owner--name").exists()


@pytest.mark.parametrize("model", ["", "nowhere", "/nowhere", "a/b/c", "../x/y", "https://x/y"])
def test_other_models_refuse(tmp_path: Path, model: str) -> None:
    with pytest.raises(Misconfigured):
        models.directory(model, tmp_path)


def test_model_names(tmp_path: Path) -> None:
    assert prepare.model_name(Settings(), str(tmp_path / "qwen3-8b")) == "qwen3-8b"
    named = configuration.load(None, {}, {"model": {"name": "given"}})
    assert prepare.model_name(named, "/x") == "given"


@pytest.mark.parametrize(
    ("attestation", "tpm", "devices", "written"),
    [
        ({}, ["/dev/tpmrm0"], [], []),
        ({"key": "gcp-vtpm"}, ["/dev/tpmrm0"], [], []),
        ({"key": "sev-snp"}, [], [], ["/sys/kernel/config/tsm/report"]),
        ({"key": "tdx"}, [], [], ["/sys/kernel/config/tsm/report"]),
        ({"key": "nitro"}, [], ["/dev/nsm"], []),
        ({"gpu": {"vendor": "nvidia"}}, ["/dev/tpmrm0"], ["/dev/nvidiactl", "/dev/nvidia0"], []),
        (
            {"gpu": {"vendor": "nvidia", "evidence": "nvidia"}},
            ["/dev/tpmrm0"],
            ["/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-nvswitchctl", "/dev/nvidia-nvswitch0"],
            [],
        ),
        ({"gpu": {"vendor": "amd"}}, ["/dev/tpmrm0"], [], []),
    ],
    ids=lambda value: str(value)[:32],
)
def test_the_attestor_reaches_what_its_evidence_takes(
    tmp_path: Path, attestation: dict[str, Any], tpm: list[str], devices: list[str], written: list[str]
) -> None:
    settings = Settings.model_validate({"state_dir": tmp_path, "attestation": attestation})
    host = replace(
        HOST,
        nvidia_devices=(Path("/dev/nvidia0"),),
        nvidia_switches=(Path("/dev/nvidia-nvswitchctl"), Path("/dev/nvidia-nvswitch0")),
    )
    places = plan.attestor(settings, RUNTIME, host, 0).additions.places
    assert [str(path) for path in places["tpm"]] == tpm
    assert [str(path) for path in places["evidence_devices"]] == devices
    assert [str(path) for path in places["state"]] == [str(tmp_path), *written]
    assert tmp_path / "collateral" in places["readable"]
    assert (Path("/sys/devices") in places["readable"]) == ("gpu" in attestation)


def test_the_engines_user_may_open_the_accelerators(tmp_path: Path) -> None:
    """ROCm's nodes belong to a group; root's own group is given to nobody."""
    (tmp_path / "dri").mkdir()
    for name, group in (
        ("kfd", 992),
        ("dri/renderD128", 993),
        ("dri/card0", 44),
        ("nvidia0", 0),
        ("tpmrm0", 111),
    ):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, 0, group)
    groups = prepare.accelerator_groups(tmp_path)
    assert groups == (992, 993)
    uids = configuration.Uids(attestor=1001, engine=1002, gateway=1003)
    settings = Settings()
    settings = settings.model_copy(update={"lock": settings.lock.model_copy(update={"uids": uids})})
    who = plan.users(settings, replace(HOST, accelerator_groups=groups))
    assert who["engine"] == User(1002, 1002, (992, 993))
    assert who["gateway"] == User(1003, 1003)
