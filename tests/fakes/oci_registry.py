"""A real OCI registry in a process of its own: Debian's `docker-registry`, on a free port, filled by the client of the ORAS project."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.listening import listening

USER, PASSWORD = "mirror", "secret-of-the-mirror"
TITLE = "org.opencontainers.image.title"
HTPASSWD = f"{USER}:$2y$04$abcdefghijklmnopqrstuu8E.GGFBxWz3ATnWo3XlzpsfWfJLLAWi\n"
PUSH = """
import os, sys
import oras.client
target, directory, user, password, annotations, *files = sys.argv[1:]
os.chdir(directory)
client = oras.client.OrasClient(insecure=True, auth_backend="basic" if user else "token")
if user:
    client.auth.set_basic_auth(user, password)
answer = client.push(target=target, files=files, annotation_file=annotations)
print(answer.headers["Docker-Content-Digest"])
"""


@dataclass(frozen=True)
class Registry:
    host: str
    url: str
    scratch: Path

    def push(self, directory: Path, name: str, user: str = USER, password: str = PASSWORD) -> str:
        """A directory's files as an artefact; gives its digest."""
        files = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
        # By itself this client, unlike the command `oras`, drops the folders from titles.
        annotations = self.scratch / "annotations.json"
        annotations.write_text(json.dumps({path: {TITLE: path} for path in files}))
        words = [f"{self.host}/{name}", directory, user, password, annotations, *files]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PUSH, *words],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]


@contextlib.contextmanager
def running(directory: Path, auth: dict[str, Any] | None = None) -> Iterator[Registry]:
    """Until left. Who may come in: `mirror`, or as `auth` says in the registry's own words."""
    program = shutil.which("docker-registry")
    assert program, "docker-registry is missing: scripts/setup.sh test installs it"
    (directory / "htpasswd").write_text(HTPASSWD)
    basic = {"htpasswd": {"realm": "registry", "path": str(directory / "htpasswd")}}
    configuration = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "blobs")}},
        "http": {"addr": "127.0.0.1:0"},
        "auth": basic if auth is None else auth,
    }
    (directory / "registry.json").write_text(json.dumps(configuration))  # JSON is YAML
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("REGISTRY_", "OTEL_"))}
    command = [program, "serve", directory / "registry.json"]
    with listening(command, r"listening on (127\.0\.0\.1:\d+)", environment) as found:
        yield Registry(found[1], f"http://{found[1]}", directory)
