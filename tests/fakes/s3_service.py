"""A real S3-compatible service in a process of its own: OpenStack Swift (`swift_server`), filled by AWS's own client."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3

from fakes.listening import listening

SERVER = Path(__file__).with_name("swift_server.py")
PACKAGES = Path(__file__).resolve().parents[2] / ".cache" / "swift"
ACCESS_KEY_ID, SECRET, REGION = "models:mirror", "secret-of-the-mirror", "eu-central-1"
BUCKET = "models"


@dataclass(frozen=True)
class Service:
    endpoint: str

    def put(self, directory: Path, prefix: str) -> None:
        """A directory's files."""
        with _client(self.endpoint) as client:
            for path in sorted(directory.rglob("*")):
                if path.is_file():
                    name = f"{prefix}/{path.relative_to(directory)}"
                    client.put_object(Bucket=BUCKET, Key=name, Body=path.read_bytes())


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Service]:
    """Until left; with one bucket and one user."""
    assert PACKAGES.is_dir(), "OpenStack Swift is missing: scripts/setup.sh test installs it"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    command = [sys.executable, "-W", "ignore", SERVER, directory]
    with listening(command, r"listening on (http://127\.0\.0\.1:\d+)", environment) as found:
        with _client(found[1]) as client:
            client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield Service(found[1])


@contextlib.contextmanager
def _client(endpoint: str) -> Iterator[boto3.client]:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET,
    )
    with contextlib.closing(client):
        yield client
