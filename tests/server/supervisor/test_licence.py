"""A licence in a directory of the operator's: the locked attestor reads it there, and takes over what is put in its place."""

from __future__ import annotations

import time
from pathlib import Path

from deployment import make_settings, running

from fakes.vendor import DAY, Vendor
from rlu_attestation.encoding import b64u
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.jose import jws_parse
from rlu_server.licence.document import digest
from rlu_server.settings import Settings


async def test_the_locked_attestor_reads_it(tmp_path: Path) -> None:
    now = int(time.time())
    operator = tmp_path / "operator"
    operator.mkdir()
    vendor = Vendor()
    file = vendor.install(operator, not_before=now - 100 * DAY, expires_at=now + 100 * DAY)
    document = make_settings(tmp_path).model_dump()
    document["licence"] |= {"file": file, "vendor_keys": [operator / "vendor.pub.pem"]}
    async with running(tmp_path, Settings.model_validate(document)) as up:
        assert (await up.ask())[0] == 200
        _, answer, _ = await up.call("GET", f"/v1/rlu/attestation?nonce={b64u(bytes(32))}")
        claims = InstanceClaims.parse(jws_parse(answer["attestation"]["statement"]).payload)
        assert claims.licence is not None
        assert claims.licence.digest == digest(file.read_text().strip())

        vendor.install(operator, not_before=now - 100 * DAY, expires_at=now - 50 * DAY)
        deadline = time.monotonic() + 60
        while (refused := await up.call("POST", "/v1/rlu/sessions", {"nonce": "A" * 22}))[0] == 201:
            assert time.monotonic() < deadline
        assert (refused[0], refused[1]["code"]) == (403, "licence_expired")
