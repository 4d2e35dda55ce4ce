"""An S3-compatible service in a process of its own: moto's server, which checks signatures and permissions like the real one.

A fake, since no real service is in Debian or on PyPI; its protocol is the real one, and boto3, AWS's own client, is what fills it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fakes.listening import listening

REGION = "eu-central-1"
BUCKET = "models"
FREE_CALLS = 3
"""Of a user, his policy and his key, before which nobody could sign anything."""
ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}


@dataclass(frozen=True)
class Service:
    endpoint: str
    access_key_id: str
    secret_access_key: str

    def put(self, directory: Path, prefix: str) -> None:
        """A directory's files, by AWS's own client."""
        import boto3

        client = boto3.client("s3", **_where(self.endpoint), **_keys(self))
        with contextlib.closing(client):
            for path in sorted(directory.rglob("*")):
                if path.is_file():
                    name = f"{prefix}/{path.relative_to(directory)}"
                    client.put_object(Bucket=BUCKET, Key=name, Body=path.read_bytes())


@contextlib.contextmanager
def running() -> Iterator[Service]:
    """Until left; with one bucket and one user."""
    import boto3

    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(FREE_CALLS)}
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with listening(command, r"http://127\.0\.0\.1:\d+", environment) as found:
        anybody = Service(found[0], "nobody", "nothing")
        iam = boto3.client("iam", **_where(found[0]), **_keys(anybody))
        with contextlib.closing(iam):
            iam.create_user(UserName="u")
            iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=json.dumps(ALL))
            made = iam.create_access_key(UserName="u")["AccessKey"]
        service = Service(found[0], made["AccessKeyId"], made["SecretAccessKey"])
        client = boto3.client("s3", **_where(found[0]), **_keys(service))
        with contextlib.closing(client):
            client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield service


def _where(endpoint: str) -> dict[str, str]:
    return {"endpoint_url": endpoint, "region_name": REGION}


def _keys(service: Service) -> dict[str, str]:
    return {
        "aws_access_key_id": service.access_key_id,
        "aws_secret_access_key": service.secret_access_key,
    }
