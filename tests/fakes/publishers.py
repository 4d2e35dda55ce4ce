"""What vendors publish, on loopback: a proxy behind which every vendor's host answers over TLS what the fake vendors signed.

The paths, media types and headers are those of the real services. `Publishers.seen` holds what was asked; `change` replaces an answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp as requests

from fakes import amd, aws, google, intel, nvidia
from fakes.pki import AT, YEAR, common_name
from fakes.tee import CHIP, NODE, PLATFORM

HOSTS = (
    "kdsintf.amd.com",
    "api.trustedservices.intel.com",
    "certificates.trustedservices.intel.com",
    "rim.attestation.nvidia.com",
    "ocsp.ndis.nvidia.com",
    "crl.example",
    "pccs.example",
    "pki.example",
    "pki.infineon.com",
)
KDS, PCS, RIM, OCSP = (
    "https://kdsintf.amd.com",
    "https://api.trustedservices.intel.com",
    "https://rim.attestation.nvidia.com",
    "https://ocsp.ndis.nvidia.com",
)
INTEL_ROOT_LIST = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"


@dataclass
class Published:
    content: bytes
    type: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    length: int | None = None


def pem(*certificates: bytes) -> bytes:
    return intel.pem(*certificates).rstrip(b"\0")


def of_amd(chip: amd.Chip = CHIP) -> dict[str, Published]:
    """KDS: specification 57230."""
    line, root = chip.product, amd.ark(chip.product)
    names = ("fmcSPL", "blSPL", "teeSPL", "snpSPL", "ucodeSPL")
    levels = {"Turin": (0, 1, 2, 3, 7)}.get(line, (None, 0, 1, 6, 7))
    query = "&".join(
        f"{name}={chip.tcb[at]:02}" for name, at in zip(names, levels, strict=True) if at is not None
    )
    base = f"{KDS}/vcek/v1/{line}"
    return {
        f"{base}/cert_chain": Published(pem(chip.issuer.der, root.der), "application/x-pem-file"),
        f"{base}/{chip.hwid.hex()}?{query}": Published(chip.certificate()),
        f"{base}/crl": Published(root.revoke(0x666), "application/pkix-crl"),
    }


def of_intel(base: str = PCS, root_list: str = INTEL_ROOT_LIST) -> dict[str, Published]:
    """PCS version 4; with another base, a PCCS, whose lists are in hexadecimal."""
    pccs = base != PCS
    signer, ca = intel.signing(), intel.platform_ca()
    assert isinstance(signer.key, ec.EllipticCurvePrivateKey)

    def signed(member: str, value: dict[str, object]) -> bytes:
        text = intel.text_of(value)
        signature = intel.raw_signature(signer.key, text.encode()).hex()  # type: ignore[arg-type]
        return f'{{"{member}":{text},"signature":"{signature}"}}'.encode()

    chain = quote(pem(signer.der, intel.root().der).decode())
    json_type = "application/json;charset=UTF-8"

    def listed(data: bytes) -> Published:
        return (
            Published(data.hex().encode(), "text/plain") if pccs else Published(data, "application/pkix-crl")
        )

    pck = listed(ca.revoke(0x666))
    pck.headers["SGX-PCK-CRL-Issuer-Chain"] = quote(pem(ca.der, intel.root().der).decode())
    return {
        f"{base}/tdx/certification/v4/tcb?fmspc=90c06f000000": Published(
            signed("tcbInfo", intel.tcb_info()), json_type, {"TCB-Info-Issuer-Chain": chain}
        ),
        f"{base}/tdx/certification/v4/qe/identity": Published(
            signed("enclaveIdentity", intel.qe_identity()),
            json_type,
            {"SGX-Enclave-Identity-Issuer-Chain": chain},
        ),
        f"{base}/sgx/certification/v4/pckcrl?ca=platform&encoding=der": pck,
        root_list: listed(intel.root().revoke()),
    }


def rim_ids(node: nvidia.Node = NODE) -> dict[str, bytes]:
    """Identifier to reference values."""
    gpu = node.gpus[0]
    found = {
        f"NV_GPU_DRIVER_{gpu.chip}_{gpu.driver}": nvidia.rim(gpu, False).xml(),
        f"NV_GPU_VBIOS_G520_0200_885_{gpu.vbios.replace('.', '')}": nvidia.rim(gpu, True).xml(),
    }
    for switch in node.switches[:1]:
        name = f"NV_SWITCH_BIOS_5612_0002_890_{switch.vbios.replace('.', '')}"
        found[name] = nvidia.rim(switch, True).xml()
    return found


def of_nvidia(node: nvidia.Node = NODE) -> dict[str, Published]:
    """RIM service, version 1; the OCSP responder is `answer_ocsp`."""
    return {
        f"{RIM}/v1/rim/{name}": Published(
            json.dumps(
                {
                    "id": name,
                    "rim": base64.b64encode(data).decode(),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
            ).encode(),
            "application/json",
        )
        for name, data in rim_ids(node).items()
    }


def of_aws() -> dict[str, Published]:
    return {
        "https://crl.example/root.crl": Published(aws.root().revoke(0x666), "binary/octet-stream"),
        "https://crl.example/region.crl": Published(aws.region().revoke(), "binary/octet-stream"),
    }


def of_google() -> dict[str, Published]:
    return {"https://pki.example/parent.crl": Published(google.root().revoke(0x666), "application/pkix-crl")}


def answer_ocsp(content: bytes) -> Published:
    """What NVIDIA's responder says about the certificate in a request."""
    request = requests.load_der_ocsp_request(content)
    for authority in NODE.authorities():
        if authority.serial == request.serial_number:
            return Published(nvidia.ocsp(authority), "application/ocsp-response")
    return Published(b"", status=404)


class Publishers:
    """The proxy, and behind it everything above; `with Publishers(directory) as published:`."""

    def __init__(self, directory: Path) -> None:
        self.reset()
        self.seen: list[str] = []
        self.authorities = directory / "authorities.pem"
        self._context = _certificate(directory / "publishers.pem", self.authorities)
        self._server = _Proxy(("127.0.0.1", 0), _Handler)
        self._server.publishers = self

    def reset(self) -> None:
        """Every answer is genuine again."""
        pccs = "https://pccs.example"
        root_list = f"{pccs}/sgx/certification/v4/rootcacrl"
        self.answers = (
            of_amd() | of_intel() | of_intel(pccs, root_list) | of_nvidia() | of_aws() | of_google()
        )
        self.respond: Callable[[bytes], Published] = answer_ocsp

    @property
    def proxy(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def change(self, url: str, **changes: object) -> None:
        self.answers[url] = replace(self.answers[url], **changes)  # type: ignore[arg-type]

    def client_tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authorities))

    def __enter__(self) -> Publishers:
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, url: str, content: bytes) -> Published:
        self.seen.append(f"{method} {url}")
        if method == "POST" and url == f"{OCSP}/":
            return self.respond(content)
        return self.answers.get(url, Published(b"", status=404))


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    publishers: Publishers

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def log_message(self, *_: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        tls = self.server.publishers._context.wrap_socket(self.connection, server_side=True)
        self.connection = tls
        self.rfile, self.wfile = tls.makefile("rb"), tls.makefile("wb", 0)
        self.close_connection = False
        self.handle_one_request()
        self.close_connection = True
        tls.close()

    def do_GET(self) -> None:
        self._give(b"")

    def do_POST(self) -> None:
        self._give(self.rfile.read(int(self.headers["Content-Length"])))

    def _give(self, content: bytes) -> None:
        url = f"https://{self.headers['Host']}{self.path}"
        found = self.server.publishers.answer(self.command, url, content)
        self.send_response(found.status)
        self.send_header("Content-Type", found.type)
        self.send_header("Content-Length", str(len(found.content) if found.length is None else found.length))
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(found.content)


def _certificate(path: Path, authorities: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = common_name("publishers")
    now = AT.replace(year=AT.year - 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - YEAR)
        .not_valid_after(now + timedelta(days=7000))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, SHA256())
    )
    public = certificate.public_bytes(Encoding.PEM)
    authorities.write_bytes(public)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + public)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


__all__ = ["CHIP", "NODE", "PLATFORM", "Published", "Publishers"]
