"""The demo's directory: made once, used again. Every step is idempotent.

model/        the demo model, signed    swtpm/        the emulated TPM and its CA
registrar/    the demo's registrar      state/        what `rlu serve` keeps: wrapped key, certificates, log, API keys
rlu.toml      settings                  policy.toml   what the demo's verifier accepts
api-key       the client's key          gateway.crt   the gateway's certificate of this start
model-signer.pem, .pub                  the key that signs the model, and its public half
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation.errors import RluError
from rlu_attestation.files import write_private
from rlu_server import settings as configuration
from rlu_server import swtpm
from rlu_server.cli.keyfile import change
from rlu_server.core import apikeys
from rlu_server.models import measure, signing
from rlu_server.models.walking import SIGNATURE
from rlu_server.registrar import authority
from rlu_server.registrar import demo as enrolling
from rlu_server.registrar.enrolling import Place
from rlu_server.settings import Settings
from rlu_server.supervisor.errors import ServeError, Unavailable

MODEL_NAME = "rlu-demo"
CANARY = "rlu-canary.json"


@dataclass(frozen=True, slots=True)
class Demo:
    """Paths below the demo's directory."""

    directory: Path

    @property
    def model(self) -> Path:
        return self.directory / "model"

    @property
    def swtpm(self) -> Path:
        return self.directory / "swtpm"

    @property
    def registrar(self) -> Path:
        return self.directory / "registrar"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def config(self) -> Path:
        return self.directory / "rlu.toml"

    @property
    def policy(self) -> Path:
        return self.directory / "policy.toml"

    @property
    def api_key(self) -> Path:
        return self.directory / "api-key"

    @property
    def certificate(self) -> Path:
        return self.directory / "gateway.crt"

    @property
    def model_signer(self) -> Path:
        return self.directory / "model-signer.pem"

    @property
    def model_signer_public(self) -> Path:
        return self.directory / "model-signer.pub"

    @property
    def bundle(self) -> Path:
        return self.directory / "verified.json"


def open_directory(directory: Path) -> Demo:
    """Make the directory.

    Raises:
        Unavailable: it cannot be made.
    """
    demo = Demo(directory.expanduser().resolve())
    try:
        demo.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        demo.state.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"cannot make {demo.directory} ({error.strerror}); choose another with --dir"
        ) from error
    return demo


def make_model(demo: Demo) -> bool:
    """Train the demo model if it is not there; returns whether it had to. A process of its own: torch's memory goes when it ends.

    Raises:
        ServeError: training failed.
    """
    if (demo.model / CANARY).is_file():
        return False
    command = [sys.executable, "-I", "-m", "rlu_server.models.demo", str(demo.model)]
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise ServeError("the demo model could not be made, see above; `make run` installs what it needs")
    return True


def sign_model(demo: Demo) -> None:
    """Sign the demo model with the demo's key, made once, where it has no signature by that key. One that was altered is not signed anew.

    Raises:
        ServeError: it cannot be signed.
    """
    try:
        if not demo.model_signer.exists():
            _make_signer(demo)
        key = signing.private_key(demo.model_signer.read_bytes())
        signed = demo.model / SIGNATURE
        try:
            signing.verify(signed.read_bytes(), signing.Signers((key.public_key(),)))
        except (FileNotFoundError, RluError):
            signed.write_bytes(signing.sign(measure(demo.model), MODEL_NAME, key))
    except (RluError, OSError) as error:
        raise ServeError(
            f"the demo model could not be signed: {error}; start over with another --dir"
        ) from error


def _make_signer(demo: Demo) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    demo.model_signer_public.write_bytes(public)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(demo.model_signer, private)


DEFAULTS = """\
# Settings of the demo; every name is explained in server/rlu.example.toml. Written once: change it as you like.

[deployment]
region = "demo-region"
boundary = "this-machine"
site = "laptop"
hardware_profile = "cpu-demo"

[gateway]
port = 8443

[engine]
kv_cache_gib = 1
"""


def settings(demo: Demo, tcti: str, port: int | None, max_model_len: int | None = None) -> Settings:
    """The demo's settings: its file, the environment, and what only this start knows.

    Raises:
        SettingsError: the file or the environment was refused.
    """
    if not demo.config.exists():
        demo.config.write_text(DEFAULTS, "utf-8")
    forced: dict[str, object] = {
        "state_dir": str(demo.state),
        "attestation": {"tcti": tcti, "insecure_software_key": False},
        "model": {
            "path": str(demo.model),
            "name": MODEL_NAME,
            "signature": "required",
            "signers": [str(demo.model_signer_public)],
        },
    }
    if port is not None:
        forced["gateway"] = {"port": port}
    if max_model_len is not None:
        forced["engine"] = {"max_model_len": max_model_len}
    return configuration.load(demo.config, overrides=forced)


def enrol(demo: Demo, given: Settings) -> bool:
    """Have the demo's registrar endorse the emulated TPM for this region, boundary and site; returns whether it had to.

    Raises:
        ServeError: a step refused.
    """
    place = {
        "boundary": given.deployment.boundary,
        "region": given.deployment.region,
        "site": given.deployment.site,
    }
    mark = demo.registrar / "enrolled.json"
    if mark.exists() and json.loads(mark.read_text("utf-8")) == place:
        return False
    try:
        enrolling.enrol(
            demo.registrar,
            demo.state,
            given.attestation.tcti,
            Place(**place),
            datetime.now(timezone.utc),
            [swtpm.root_certificate(demo.swtpm)],
            [swtpm.issuer_certificate(demo.swtpm)],
        )
    except RluError as error:
        raise ServeError(
            f"the registrar did not endorse the emulated TPM: {error} ({error.code}); start over with another --dir"
        ) from error
    mark.write_text(json.dumps(place), "utf-8")
    return True


def registrar_certificate(demo: Demo) -> Path:
    """The registrar's certificate, which the policy names."""
    return authority.certificate_path(demo.registrar)


def make_api_key(demo: Demo) -> bool:
    """Make the client's API key if there is none; returns whether it had to."""
    file = demo.state / "apikeys.json"
    if demo.api_key.exists() and file.exists():
        return False
    record, key = apikeys.mint(
        secrets.token_bytes(apikeys.ID_SIZE),
        secrets.token_bytes(apikeys.SECRET_SIZE),
        "demo",
        "newcomer",
        int(time.time()),
        None,
    )
    change(file, lambda keys: msgspec.structs.replace(keys, keys=[*keys.keys, record]))
    handle = os.open(demo.api_key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(key + "\n")
    return True
