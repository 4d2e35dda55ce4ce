"""Signatures of S3 requests, against AWS's own code and the vector of its documentation's key derivation."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Theirs

from rlu_server.updates.sigv4 import Credentials, headers

NOW = 1_800_000_000
URLS = [
    "https://s3.eu-central-1.amazonaws.com/models/config.json",
    "https://minio.internal:9000/models/a%20b/%C3%BC~%2B.txt",
    "http://127.0.0.1:9000/models/",
    "https://host/",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("token", ["", "session-token"])
def test_as_aws_signs(url: str, method: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
    monkeypatch.setattr(auth, "get_current_datetime", lambda *_: at)
    request: Any = AWSRequest(method=method, url=url)
    request.context["payload_signing_enabled"] = True
    auth.S3SigV4Auth(Theirs("AKID", "SECRET", token or None), "s3", "eu-central-1").add_auth(request)
    theirs = {name.lower(): value for name, value in request.headers.items()}
    ours = headers(method, url, Credentials("AKID", "SECRET", token), "eu-central-1", NOW)
    assert {name.lower(): value for name, value in ours.items()} == theirs


def test_every_input_is_covered() -> None:
    def signature(
        method: str = "GET", url: str = URLS[0], secret: str = "s", region: str = "r", now: int = NOW
    ) -> str:
        made = headers(method, url, Credentials("AKID", secret), region, now)
        return made["Authorization"].rpartition("Signature=")[2]

    others = [
        signature(method="HEAD"),
        signature(url=URLS[0] + "x"),
        signature(url=URLS[0].replace("s3", "s4")),
        signature(secret="t"),
        signature(region="q"),
        signature(now=NOW + 1),
    ]
    assert len({signature(), *others}) == 1 + len(others)


def test_a_query_is_not_signed_as_if_it_were_not_there() -> None:
    with pytest.raises(ValueError, match="query"):
        headers("GET", "https://h/b/k?acl", Credentials("a", "b"), "r", NOW)


def test_secrets_are_not_shown() -> None:
    assert "SECRET" not in repr(Credentials("AKID", "SECRET", "SECRET-TOKEN"))
