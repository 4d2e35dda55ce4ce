"""Real vLLM under the lock: every file it has open or has made is accounted for, and its known answer in every form."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from e2e.processes import command_line, descendants
from e2e.proofs import open_session
from e2e.served import MODEL, Served
from rlu_server.engine import readiness
from rlu_server.engine.canary import Canary, LikelihoodCanary, TokenCanary

pytestmark = [pytest.mark.engine, pytest.mark.tpm]

WRITTEN = {
    # below the engine's scratch: what it is (vLLM's own places are in `engine/environment.py`)
    r"engine\.sock": "where the gateway connects",
    r"r/[0-9a-f-]{36}": "ZeroMQ between the API server, the core and its workers",
    r"t/vllm_dist_[0-9a-f]+": "rendezvous of the workers",
    r"t/[A-Za-z0-9_.-]*(tmp|torch|inductor|pymp-)[A-Za-z0-9_.-]*(/.*)?": "temporary directories of Python and torch",
    r"c/vllm/modelinfos/.*": "flags of model classes, made before a client can reach the engine",
    r"c/(vllm|inductor|triton|torch|torch-extensions|numba|hf|assets|xla|cuda|outlines|tilelang)(/.*)?": "caches of compiled code",
    r"h(/.*)?": "home: configuration",
}
SHARED = {
    r"psm_[0-9a-f]+": "ring of scheduler output",
    r"sem\.[A-Za-z0-9_-]+": "semaphores",
    r"torch_.*": "tensors",
}


@dataclass(frozen=True)
class OpenFile:
    path: str
    writing: bool


def engine_processes(served: Served) -> list[int]:
    """All below the engine's launcher: vLLM's own have other names."""
    launcher = served.processes("--module vllm.entrypoints")[0]
    return [launcher, *descendants(launcher)]


def open_files(pid: int) -> Iterator[OpenFile]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            path = os.readlink(link)
            flags = re.search(
                r"^flags:\s+([0-7]+)$", Path(f"/proc/{pid}/fdinfo/{link.name}").read_text(), re.M
            )
        except FileNotFoundError:
            continue
        assert flags is not None
        yield OpenFile(path, int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY)
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            yield OpenFile(fields[5], fields[1][1] == "w" and fields[1][3] == "s")


def writable_mounts(pid: int) -> set[str]:
    found = set()
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        if "rw" in fields[5].split(","):
            found.add(fields[4])
    return found


def test_every_file_of_the_engine_is_accounted_for(served: Served) -> None:
    session = {"RLU-Session": open_session(served.caller)}
    assert served.ask(served.marker()).status == 200
    body = {"model": MODEL, "input": served.marker(), "max_output_tokens": 8, "stream": True}
    assert served.caller.post("/v1/responses", body, session).status == 200

    scratch = str(served.runtime / "engine")
    pids = engine_processes(served)
    assert sum("vllm" in command_line(pid).lower() for pid in pids) >= 2, "the launcher and the program"
    for pid in pids:
        assert writable_mounts(pid) <= {scratch, "/dev/shm"}, "only these can be written at all"
        strange = {
            file.path
            for file in open_files(pid)
            if file.writing
            and not file.path.removesuffix(" (deleted)").startswith((scratch + "/", "/dev/shm/", "/dev/null"))
            and not file.path.startswith(("pipe:", "socket:", "anon_inode:"))
        }
        assert strange == set(), command_line(pid)

    root = Path(f"/proc/{pids[-1]}/root")
    unknown = [
        place
        for place in below(root / scratch.lstrip("/"))
        if not any(re.fullmatch(pattern, place) for pattern in WRITTEN)
    ]
    assert unknown == [], "say in this table what it is"
    unknown = [
        place
        for place in below(root / "dev" / "shm")
        if not any(re.fullmatch(pattern, place) for pattern in SHARED)
    ]
    assert unknown == [], "say in this table what it is"


def below(directory: Path) -> Iterator[str]:
    """Everything but directories."""
    for parent, _, names in os.walk(directory):
        for name in names:
            yield str((Path(parent) / name).relative_to(directory))


def test_the_known_answer_in_every_form(served: Served) -> None:
    """Against vLLM itself, by the socket that the gateway uses."""
    socket = served.runtime / "engine" / "engine.sock"

    def ask(known: Canary | TokenCanary | LikelihoodCanary) -> None:
        asyncio.run(readiness.check_canary(socket, MODEL, known))

    def wrong(known: Canary | TokenCanary | LikelihoodCanary) -> None:
        with pytest.raises(readiness.WrongAnswer):
            ask(known)

    text = readiness.load_canary(served.directory / "model")
    assert isinstance(text, Canary)
    ask(text)
    wrong(replace(text, expect=text.expect + "x"))

    told = served.caller.post(
        "/v1/chat/completions",
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": text.prompt}],
            "temperature": 0,
            "max_tokens": 12,
            "return_token_ids": True,
        },
    )
    tokens = tuple(told.json()["choices"][0]["token_ids"])
    ask(TokenCanary(text.prompt, tokens))
    wrong(TokenCanary(text.prompt, (tokens[0] ^ 1, *tokens[1:])))

    # What the model was trained on is likely; noise is not.
    likely = LikelihoodCanary(text.expect[:40], text.expect[40:100], -6.0)
    ask(likely)
    wrong(replace(likely, continuation="zqx!! 0x7f }{ ~~ vvv kkjq 991"))
