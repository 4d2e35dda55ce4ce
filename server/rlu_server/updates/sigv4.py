"""AWS Signature Version 4 for requests without content, which is all that fetching takes. Without I/O; the time is an argument.

As in "Signature Version 4 signing process" of the S3 API reference: canonical request, string to sign, derived key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import urlsplit

EMPTY = hashlib.sha256(b"").hexdigest()
ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def headers(
    method: str, url: str, credentials: Credentials, region: str, now: int, service: str = "s3"
) -> Mapping[str, str]:
    """The headers that sign a request. What is sent beside them (`Range`) is not covered: whoever changes it gets other bytes, which are
    verified.

    Args:
        url: its path encoded as it is sent; no query.
        now: seconds since the epoch.
    """
    parts = urlsplit(url)
    if parts.query:
        raise ValueError("a query is not signed here")
    at = datetime.fromtimestamp(now, timezone.utc)
    stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    given = {"host": parts.netloc, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
    if credentials.session_token:
        given["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(given))
    lines = "".join(f"{name}:{given[name]}\n" for name in sorted(given))
    request = "\n".join([method, parts.path or "/", "", lines, names, EMPTY])
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join([ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    del given["host"]
    return given | {
        "Authorization": f"{ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    }
