"""That an update talks to the source that was named and to nobody else: every packet of the command is recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from fakes import model_vendor, update_namespace
from rlu_server.models import measure

MIRROR, ELSEWHERE = "192.0.2.10", "https://198.51.100.7:443"


def test_nobody_else(tmp_path: Path) -> None:
    place = model_vendor.make(tmp_path / "vendor" / "m", 1)
    config = (
        f'state_dir = "{tmp_path}"\n[model]\nname = "m"\npath = "{tmp_path / "store" / "current"}"\n'
        f'signers = ["{model_vendor.public(tmp_path)}"]\n[update]\nreserve_bytes = 0\n'
        'source = "{url}/m"\nca_file = "{ca}"\n'
    )
    rlu = (sys.executable, "-m", "rlu_attestation.cli", "update")
    end = ("--config", str(tmp_path / "rlu.toml"))
    order = {
        "directory": str(tmp_path),
        "host": MIRROR,
        "config": config,
        "runs": [
            {"command": [*rlu, "run", "--now", *end], "redirect": ELSEWHERE},
            {"command": [*rlu, "run", "--now", *end], "redirect": ""},
            {"command": [*rlu, "status", *end], "redirect": ""},
        ],
    }
    # A proxy that somebody set for other programs is not one of ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://198.51.100.1:3128")
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, update_namespace.__file__],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    sent_elsewhere, updated, told = seen["ran"]
    assert (sent_elsewhere[0], "[relay.not_allowed]" in sent_elsewhere[1]) == (2, True)
    assert (updated[0], told[0]) == (0, 0), updated[1]
    assert measure(tmp_path / "store" / "current").sha256 == measure(place).sha256
    assert seen["packets"]
    for protocol, source, target in seen["packets"]:
        assert protocol == "tcp"
        assert seen["mirror"] in (source, target)
    noted = [json.loads(line) for line in (tmp_path / "egress.jsonl").read_text().splitlines()]
    assert {one["destination"] for one in noted} == {seen["mirror"]}
