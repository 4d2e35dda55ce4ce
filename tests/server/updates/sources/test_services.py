"""Whole updates from real services: an OCI registry, an S3 service, a web server over TLS, through a proxy."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from joserfc import jwt
from joserfc.jwk import ECKey

from fakes import model_vendor, oci_registry, s3_service
from fakes.issuer import Authority
from fakes.model_vendor import serving
from fakes.vendor import Proxy
from rlu_attestation.errors import RluError
from rlu_server.models import measure
from rlu_server.outreach.http import BadAddress, Unreachable
from rlu_server.updates import opening
from rlu_server.updates.errors import NotPossible, UpdateRefused
from rlu_server.updates.sources.source import Absent

MORE = {"sub__a b+ü~_dot_txt": b"y", "empty_dot_txt": b""}


def offer(home: Path, number: int) -> Path:
    return model_vendor.make(home / "vendor" / str(number), number, b"weights" * 999 + b"%d" % number, **MORE)


def secrets(home: Path, **fields: str) -> Path:
    place = home / "credentials"
    place.mkdir(exist_ok=True)
    for name, text in fields.items():
        (place / name).write_text(text + "\n")
    return place


def code(work: Any, kind: type[RluError]) -> str:
    with pytest.raises(kind) as caught:
        work()
    return caught.value.code


def hosts(site: Any) -> set[str]:
    return {one.destination for one in site.crossings}


def test_s3(site: Any, tmp_path: Path) -> None:
    (tmp_path / "swift").mkdir()
    with s3_service.running(tmp_path / "swift") as s3:
        one, two = offer(site.home, 1), offer(site.home, 2)
        s3.put(one, "team/qwen")
        keys = secrets(site.home, access_key_id=s3_service.ACCESS_KEY_ID, secret_access_key=s3_service.SECRET)
        source = {"endpoint": s3.endpoint, "region": s3_service.REGION, "credentials": keys}
        site.configure(source="s3://models/team/qwen", **source)
        site.now = int(time.time())  # signatures are good for minutes
        assert site.job().update().result == "applied"
        assert site.served() == measure(one).sha256
        s3.put(two, "team/qwen")
        assert site.job().update().result == "applied"
        assert site.served() == measure(two).sha256
        assert hosts(site) == {s3.endpoint.removeprefix("http://")}
        # What did not change was copied from the version that was served.
        fetched = [one.received for one in site.crossings]
        assert fetched.count(len((one / "config.json").read_bytes())) == 1
        # A part of a file, as after a run that was killed.
        with opening.source_of(site.settings.update, lambda _: None).open("model.safetensors", 5) as rest:
            assert rest.start == 5
            assert rest.read(1 << 20) == (two / "model.safetensors").read_bytes()[5:]

        site.configure(source="s3://models/nothing")
        assert code(site.job().check, Absent) == "update.absent"
        site.configure(source="s3://models/team/qwen")
        secrets(site.home, secret_access_key="another")
        assert code(site.job().check, NotPossible) == "update.forbidden"
        site.configure(credentials=None)
        assert code(site.job().check, NotPossible) == "update.status"


def test_oci(site: Any, tmp_path: Path) -> None:
    with oci_registry.running(tmp_path) as registry:
        one, two = offer(site.home, 1), offer(site.home, 2)
        digest = registry.push(one, "team/qwen:stable")
        keys = secrets(site.home, username=oci_registry.USER, password=oci_registry.PASSWORD)
        site.configure(
            source=f"oci://{registry.host}/team/qwen:stable", endpoint=registry.url, credentials=keys
        )
        assert site.job().update().result == "applied"
        assert site.served() == measure(one).sha256
        registry.push(two, "team/qwen:stable")
        assert site.job().update().result == "applied"
        assert site.served() == measure(two).sha256
        assert hosts(site) == {registry.host}

        site.configure(source=f"oci://{registry.host}/team/qwen@{digest}")
        assert site.job(allow_downgrade=True).check().candidate.release == 1
        site.configure(source=f"oci://{registry.host}/team/qwen:other")
        assert code(site.job().check, Absent) == "update.absent"
        secrets(site.home, password="another")
        site.configure(source=f"oci://{registry.host}/team/qwen:stable")
        assert code(site.job().check, NotPossible) == "update.forbidden"
        site.configure(credentials=None)
        assert code(site.job().check, NotPossible) == "update.forbidden"


class TokenService(model_vendor.ModelServer):
    """Gives the registry's clients tokens, as its specification says."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        authority = Authority("Tokens")
        _, chain = authority.issue(x509.DNSName("tokens"))
        self.key = load_pem_private_key(chain[chain.index(b"-----BEGIN PRIV") :], None)
        leaf = x509.load_pem_x509_certificate(chain)
        self.x5c = base64.b64encode(leaf.public_bytes(Encoding.DER)).decode()
        (root / "tokens-ca.pem").write_bytes(authority.pem)

    def answer(self, request: Any, *, content: bool) -> None:
        assert request.path == "/token?service=registry&scope=repository%3Ateam%2Fqwen%3Apull"
        now = int(time.time())
        claims = {
            "iss": "tokens",
            "sub": "mirror",
            "aud": "registry",
            "exp": now + 600,
            "nbf": now - 600,
            "iat": now,
            "jti": "1",
            "access": [{"type": "repository", "name": "team/qwen", "actions": ["pull"]}],
        }
        token = jwt.encode({"alg": "ES256", "x5c": [self.x5c]}, claims, ECKey.import_key(self.key))
        data = b'{"token": "%s"}' % token.encode()
        self.asked.append(model_vendor.Asked(request.command, request.path, dict(request.headers)))
        model_vendor.say(request, 200, {}, len(data))
        request.wfile.write(data)


def test_oci_with_a_token_service(site: Any, tmp_path: Path) -> None:
    with oci_registry.running(tmp_path) as registry:
        one = offer(site.home, 1)
        registry.push(one, "team/qwen:stable")
    with serving(tmp_path, kind=TokenService) as tokens:
        auth = {
            "token": {
                "realm": f"{tokens.url}/token",
                "service": "registry",
                "issuer": "tokens",
                "rootcertbundle": str(tmp_path / "tokens-ca.pem"),
            }
        }
        with oci_registry.running(tmp_path, auth) as registry:
            keys = secrets(site.home, username="mirror", password="p")
            site.configure(
                source=f"oci://{registry.host}/team/qwen:stable", endpoint=registry.url, credentials=keys
            )
            assert code(site.job().check, BadAddress) == "relay.not_allowed"
            assert tokens.asked == []
            site.configure(allow=[tokens.host])
            assert site.job().update().result == "applied"
            assert site.served() == measure(one).sha256
            [asked] = tokens.asked
            assert asked.headers["Authorization"] == "Basic " + base64.b64encode(b"mirror:p").decode()


def test_https_with_our_own_ca(site: Any, tmp_path: Path) -> None:
    one = offer(site.home, 1)
    with serving(one.parent, tls=tmp_path) as server:
        site.configure(
            source=f"{server.url}/1", ca_file=server.ca_file, credentials=secrets(tmp_path, token="t")
        )
        server.behaviour.token = "t"
        assert site.job().update().result == "applied"
        assert site.served() == measure(one).sha256
        assert {one.headers["accept-encoding"] for one in server.asked} == {"identity"}
        secrets(tmp_path, token="u")
        assert code(site.job().check, NotPossible) == "update.forbidden"
        site.configure(ca_file=None)
        assert code(site.job().check, Unreachable) == "relay.unreachable"


def test_through_a_proxy(site: Any, tmp_path: Path) -> None:
    one = offer(site.home, 1)
    with serving(one.parent, tls=tmp_path) as server, Proxy(server.host) as proxy:
        site.configure(source=f"{server.url}/1", ca_file=server.ca_file, proxy=proxy.url)
        assert site.job().update().result == "applied"
        assert set(proxy.asked) == {f"CONNECT {server.host}"}
        assert {one.proxy for one in site.crossings} == {proxy.url}
        proxy.allowed = "elsewhere:443"
        assert code(site.job().check, Unreachable) == "relay.unreachable"


def test_a_hub_that_keeps_blobs_elsewhere(site: Any, tmp_path: Path) -> None:
    one = offer(tmp_path, 1)
    (tmp_path / "cdn" / "o" / "n" / "resolve").mkdir(parents=True)
    (tmp_path / "cdn" / "o" / "n" / "resolve" / "main").symlink_to(one)
    with serving(tmp_path) as hub, serving(tmp_path / "cdn") as cdn:
        hub.behaviour.redirect = cdn.url
        site.configure(source="hub://o/n@main", endpoint=hub.url, credentials=secrets(tmp_path, token="t"))
        assert code(site.job().check, BadAddress) == "relay.not_allowed"
        assert cdn.asked == [], "nothing was sent there"
        site.configure(allow=[cdn.host])
        assert site.job().update().result == "applied"
        assert site.served() == measure(one).sha256
        assert {one.headers.get("authorization") for one in hub.asked} == {"Bearer t"}
        assert {one.headers.get("authorization") for one in cdn.asked} == {None}, "credentials stay"
        assert hosts(site) == {hub.host, cdn.host}
        cdn.behaviour.redirect = cdn.url
        assert code(site.job().check, Unreachable) == "relay.redirects"


def test_no_plain_http_but_on_this_machine(site: Any) -> None:
    site.configure(source="http://192.0.2.1/m")
    assert code(site.job().check, BadAddress) == "relay.url"
    assert site.crossings == []


STATUSES = {
    403: (NotPossible, "update.forbidden"),
    404: (Absent, "update.absent"),
    418: (NotPossible, "update.status"),
    503: (Unreachable, "relay.status"),
}


@pytest.mark.parametrize("status", STATUSES)
def test_what_servers_say(status: int, site: Any) -> None:
    kind, expected = STATUSES[status]
    with serving(site.home) as server:
        server.behaviour.status = status
        site.configure(source=f"{server.url}/m")
        assert code(site.job().check, kind) == expected
        assert site.crossings[-1].result == expected
        assert (site.crossings[0].result, site.crossings[0].destination) == ("begun", server.host)


def test_a_server_that_gives_another_model_in_between(site: Any, tmp_path: Path) -> None:
    """The list that was signed counts, not what is there when the files are fetched."""
    offer(site.home, 1)
    two = offer(site.home, 2)
    with serving(site.home / "vendor") as server:
        site.configure(source=f"{server.url}/1")
        (site.home / "vendor" / "1" / "model.safetensors").write_bytes(
            (two / "model.safetensors").read_bytes()
        )
        assert code(site.job().update, UpdateRefused) == "update.tampered"
    assert site.store.current() is None
