from __future__ import annotations

import json
import stat
import threading
import time
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from rlu_attestation.encoding import unb64u
from rlu_server.cli.apikeys import Unusable, app, parse_expiry
from rlu_server.cli.keyfile import change, read_keys
from rlu_server.core.apikeys import KeyRing, parse_file, principal_pseudonym
from rlu_server.core.errors import GatewayError

runner = CliRunner()


def make(file: Path, *more: str) -> dict[str, object]:
    arguments = ["create", "--tenant", "clinic", "--principal", "ann", "--file", str(file), "--json", *more]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    made: dict[str, object] = json.loads(result.stdout)
    return made


def ring(file: Path) -> KeyRing:
    return KeyRing.of(parse_file(file.read_bytes()))


def test_a_key_works_until_it_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "state" / "apikeys.json"
    made = make(file)
    text = str(made["key"])
    principal = ring(file).authenticate(text, time.time())
    assert (principal.tenant, principal.name, principal.key_id) == ("clinic", "ann", made["id"])
    result = runner.invoke(app, ["revoke", str(made["id"]), "--file", str(file), "--json"])
    assert result.exit_code == 0
    with pytest.raises(GatewayError) as refused:
        ring(file).authenticate(text, time.time())
    assert refused.value.code == "key_revoked"
    first = json.loads(result.stdout)["revoked"]
    again = runner.invoke(app, ["revoke", str(made["id"]), "--file", str(file), "--json"])
    assert json.loads(again.stdout)["revoked"] == first


def test_the_secret_is_shown_once_and_never_kept(tmp_path: Path) -> None:
    file = tmp_path / "apikeys.json"
    result = runner.invoke(app, ["create", "--tenant", "t", "--principal", "p", "--file", str(file)])
    assert result.exit_code == 0
    key = result.stdout.strip()
    assert key.startswith("rlu_")
    assert "shown only now" in result.stderr
    secret = key.split("_", 2)[2]
    for path in tmp_path.rglob("*"):
        assert secret.encode() not in path.read_bytes()
    listed = runner.invoke(app, ["list", "--file", str(file), "--json"])
    assert secret not in listed.output
    assert "sha256" not in listed.output


def test_the_file_is_private_and_replaced_at_once(tmp_path: Path) -> None:
    file = tmp_path / "apikeys.json"
    make(file)
    first = file.stat()
    assert stat.S_IMODE(first.st_mode) == 0o600
    pseudonym_key = parse_file(file.read_bytes()).pseudonym_key
    make(file)
    assert file.stat().st_ino != first.st_ino
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # Pseudonyms must stay what they are.
    assert parse_file(file.read_bytes()).pseudonym_key == pseudonym_key
    assert {path.name for path in tmp_path.iterdir()} == {"apikeys.json", "apikeys.json.lock"}


def test_a_change_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "apikeys.json"
    made = make(file)
    before = file.read_bytes()
    keys = read_keys(file)
    assert keys is not None
    for edit in (lambda k: 1 / 0, lambda k: type(k)(pseudonym_key="short", keys=k.keys)):
        with pytest.raises(Exception, match=r"division|apikeys\.file"):
            change(file, edit)
    assert file.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"apikeys.json", "apikeys.json.lock"}
    assert ring(file).authenticate(str(made["key"]), time.time())


def test_commands_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "apikeys.json"
    base = read_keys(file)
    assert base is None
    records = []
    for number in range(24):
        made = make(tmp_path / f"{number}.json")
        found = read_keys(tmp_path / f"{number}.json")
        assert found is not None
        assert made["id"] == found.keys[0].id
        records.append(found.keys[0])
    threads = [
        threading.Thread(
            target=change,
            args=(file, lambda k, r=record: type(k)(pseudonym_key=k.pseudonym_key, keys=[*k.keys, r])),
        )
        for record in records
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = read_keys(file)
    assert kept is not None
    assert {record.id for record in kept.keys} == {record.id for record in records}


def test_list_shows_states_and_pseudonyms(tmp_path: Path) -> None:
    file = tmp_path / "apikeys.json"
    assert json.loads(runner.invoke(app, ["list", "--file", str(file), "--json"]).stdout) == {"keys": []}
    first, second = make(file), make(file, "--expires", "1m")
    third = make(file)
    runner.invoke(app, ["revoke", str(first["id"]), "--file", str(file)])
    keys = {
        k["id"]: k
        for k in json.loads(runner.invoke(app, ["list", "--file", str(file), "--json"]).stdout)["keys"]
    }
    assert [keys[made["id"]]["state"] for made in (first, second, third)] == ["revoked", "active", "active"]
    assert keys[second["id"]]["expires"] == second["expires"]
    principal = ring(file).authenticate(str(third["key"]), time.time())
    assert keys[third["id"]]["tenant_pseudonym"] == principal.tenant_pseudonym
    assert keys[third["id"]]["principal_pseudonym"] == principal.pseudonym
    table = runner.invoke(app, ["list", "--file", str(file)]).stdout
    assert str(first["id"]) in table
    assert "revoked" in table


def test_labels_are_not_read_as_markup(tmp_path: Path) -> None:
    file = tmp_path / "apikeys.json"
    arguments = ["create", "--tenant", "[red]t[/red]", "--principal", "p", "--file", str(file)]
    assert runner.invoke(app, arguments).exit_code == 0
    assert "[red]t[/red]" in runner.invoke(app, ["list", "--file", str(file)]).stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create", "--tenant", "", "--principal", "p"], "apikeys.label"),
        (["create", "--tenant", "t", "--principal", "a\nb"], "apikeys.label"),
        (["create", "--tenant", "t" * 129, "--principal", "p"], "apikeys.label"),
        (["create", "--tenant", "t", "--principal", "p", "--expires", "soon"], "apikeys.expires"),
        (["create", "--tenant", "t", "--principal", "p", "--expires", "2001-01-01"], "apikeys.expires"),
        (["revoke", "0" * 16], "apikeys.unknown"),
        (["revoke", "rlu_0000000000000000_canary"], "apikeys.id"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_wrong_usage(tmp_path: Path, arguments: list[str], code: str, exists: bool) -> None:
    file = tmp_path / "apikeys.json"
    if exists:
        make(file)
    before = file.read_bytes() if exists else None
    result = runner.invoke(app, [*arguments, "--file", str(file), "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["code"] == code
    assert "canary" not in result.output
    assert (file.read_bytes() if file.exists() else None) == before


def test_a_broken_file_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "apikeys.json"
    file.write_text('{"rlu_apikeys": "1"}')
    for arguments in (["list"], ["create", "--tenant", "t", "--principal", "p"], ["revoke", "0" * 16]):
        result = runner.invoke(app, [*arguments, "--file", str(file)])
        assert result.exit_code == 30
        assert "apikeys.file" in result.stderr
    assert file.read_text() == '{"rlu_apikeys": "1"}'


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    arguments = [
        "create",
        "--tenant",
        "t",
        "--principal",
        "p",
        "--file",
        str(tmp_path / "occupied" / "keys.json"),
    ]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert "apikeys.file.access" in result.stderr


def test_the_configuration_names_the_file(tmp_path: Path) -> None:
    config = tmp_path / "rlu.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    arguments = ["create", "--tenant", "t", "--principal", "p", "--config", str(config)]
    assert runner.invoke(app, arguments).exit_code == 0
    assert (tmp_path / "apikeys.json").exists()
    config.write_text("nonsense = 1\n")
    refused = runner.invoke(app, arguments)
    assert (refused.exit_code, "configuration.refused" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90d", 1_000_000 + 90 * 86400),
        ("12h", 1_000_000 + 12 * 3600),
        ("5m", 1_000_300),
        ("2w", 1_000_000 + 14 * 86400),
        ("1970-01-20", 19 * 86400),
        ("1970-01-20T00:00:00Z", 19 * 86400),
        ("1970-01-20T02:00:00+02:00", 19 * 86400),
    ],
)
def test_expiries(text: str, expected: int) -> None:
    assert parse_expiry(text, 1_000_000) == expected


@pytest.mark.parametrize(
    "text", ["", "0d", "-1d", "1y", "1970-01-02", "tomorrow", "٣d", "999999w", "9999-12-31"]
)
def test_expiries_that_are_refused(text: str) -> None:
    with pytest.raises(Unusable):
        parse_expiry(text, 1_000_000)


# --- rotation, pseudonyms ---------------------------------------------------------------------------------------------


def invoke(*arguments: object) -> Result:
    return runner.invoke(app, [str(one) for one in arguments])


def test_init_makes_a_file_once(tmp_path: Path):
    file = tmp_path / "keys.json"
    assert "made" in invoke("init", "--file", file).output
    before = file.read_bytes()
    assert parse_file(before).keys == []
    assert "already" in invoke("init", "--file", file).output
    assert file.read_bytes() == before


def test_rotation_lets_the_old_key_expire(tmp_path: Path):
    file = tmp_path / "keys.json"
    old = json.loads(
        invoke("create", "--tenant", "acme", "--principal", "ann", "--file", file, "--json").stdout
    )
    made = json.loads(
        invoke("rotate", old["id"], "--overlap", "1h", "--expires", "30d", "--file", file, "--json").stdout
    )
    ring = KeyRing.of(parse_file(file.read_bytes()))
    now = made["old_expires"] - 1
    assert ring.authenticate(old["key"], now).pseudonym == ring.authenticate(made["key"], now).pseudonym
    with pytest.raises(GatewayError) as caught:
        ring.authenticate(old["key"], made["old_expires"])
    assert caught.value.code == "key_expired"
    assert ring.authenticate(made["key"], made["old_expires"]).name == "ann"
    # Never longer than it would have lived, and only what is active.
    again = json.loads(invoke("rotate", made["id"], "--overlap", "60d", "--file", file, "--json").stdout)
    assert again["old_expires"] == made["expires"]
    invoke("revoke", again["id"], "--file", file)
    refused = invoke("rotate", again["id"], "--file", file)
    assert (refused.exit_code, "apikeys.unknown" in refused.output) == (2, True)


def test_pseudonyms_are_resolved_by_the_operator_and_by_the_tenant(tmp_path: Path):
    file, names, key = tmp_path / "keys.json", tmp_path / "names", tmp_path / "key"
    for tenant in ("acme", "globex"):
        invoke("create", "--tenant", tenant, "--principal", "ann", "--file", file)
    listed = json.loads(invoke("list", "--file", file, "--json").stdout)["keys"]
    ann, other = listed
    found = invoke("resolve", ann["principal_pseudonym"], "--file", file)
    assert (found.exit_code, found.stdout) == (0, "acme/ann\n")
    assert invoke("resolve", other["tenant_pseudonym"], "--file", file).stdout == "globex\n"
    secret = unb64u(parse_file(file.read_bytes()).pseudonym_key)
    eve = principal_pseudonym(secret, "acme", "eve")
    assert invoke("resolve", eve, "--file", file).exit_code == 1
    assert invoke("resolve", "-" + eve[1:], "--file", file).exit_code == 1
    names.write_text("globex\teve\nacme\teve\n")
    assert invoke("resolve", eve, "--names", names, "--file", file).stdout == "acme/eve\n"
    # The tenant's own key: its people, nobody else's.
    key.write_text(invoke("tenant-key", "acme", "--file", file).stdout)
    names.write_text("ann\neve\n")
    assert invoke("resolve", eve, "--tenant-key", key, "--names", names).stdout == "eve\n"
    assert (
        invoke("resolve", other["principal_pseudonym"], "--tenant-key", key, "--names", names).exit_code == 1
    )
    key.write_text("x")
    assert invoke("resolve", eve, "--tenant-key", key, "--names", names).exit_code == 2
