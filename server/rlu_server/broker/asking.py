"""The instance's side: evidence of this machine that binds a request of ours, and the key that comes back.

The private key of the request is made here, for one request, and forgotten with it. The evidence is collected anew each time, by the same
collectors that the attestor has, with a key of its own where a TPM is involved: nothing of the attestor's state is touched.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rlu_attestation.errors import RluError
from rlu_attestation.models import Software
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.platform import BindingProof
from rlu_server.broker import protocol
from rlu_server.broker.appraisal import UNMEASURED
from rlu_server.broker.errors import Misused, NotReleased
from rlu_server.broker.protocol import JOB, REFUSALS, Claims
from rlu_server.broker.sealing import Header
from rlu_server.outreach.letters import JOURNAL, Mailbox
from rlu_server.settings import Settings

SINGLE = BindingProof(0, 1, ())

Collect = Callable[[bytes], Mapping[str, bytes]]
"""From what evidence must be about, 32 bytes, to items by kind."""
Post = Callable[[str, str, bytes], bytes]
"""Sends content of a media type to a path of the broker's."""


def check(settings: Settings) -> None:
    """What can be refused before anything is sent.

    Raises:
        Misused: `weights.broker`: no broker is configured.
        NotReleased: `broker.hardware`: no broker would give a key to what holds this instance's.
    """
    if not settings.weights.broker:
        raise Misused(
            "weights.broker", "this model is sealed: set [weights] broker to its vendor's key broker"
        )
    why = UNMEASURED.get(settings.attestation.holder)
    if why is not None:
        raise NotReleased(
            "broker.hardware",
            f"keys of sealed models are for TEEs that measure their software, and [attestation] key is "
            f"{settings.attestation.holder}: {why}",
        )


def evidence_of(settings: Settings) -> Collect:
    """Asks this machine's devices.

    Raises (the function that it gives):
        AttestorError: as the collectors.
    """

    def collect(root: bytes) -> Mapping[str, bytes]:
        # Libraries of devices, which nobody needs who only decides or whose broker refuses.
        from rlu_server.attestor.collect import collectors_for
        from rlu_server.attestor.process import open_platform

        with tempfile.TemporaryDirectory(prefix="rlu-key-request-") as place:
            ours = settings.attestation.model_copy(
                update={"key_path": "", "collateral_dir": settings.collateral_dir}
            )
            # A TPM's key lies wrapped in a file; this one is for one quote.
            apart = settings.model_copy(update={"attestation": ours, "state_dir": Path(place)})
            platform = open_platform(apart)
            try:
                found = {platform.kind: platform.collect(root)(SINGLE)}
            finally:
                platform.close()
            for collector in collectors_for(apart):
                found[collector.kind] = collector.collect(root)(SINGLE)
        return found

    return collect


def post_to(settings: Settings, now: Callable[[], float]) -> Post:
    """Posts to the broker of the settings, each time with a line in the journal of what left.

    Raises (the function that it gives):
        NotReleased: the broker's own code and reason.
        Unreachable, BadAddress: as `Mailbox.ask`.
        NotReady: `weights.file`: a file of the settings cannot be used.
    """
    weights = settings.weights

    def post(path: str, media_type: str, content: bytes) -> bytes:
        url = weights.broker.rstrip("/") + path
        box = Mailbox(JOB, url, weights.proxy, weights.ca_file, settings.state_dir / JOURNAL)
        try:
            status, answer = box.ask(content, media_type, int(now()), REFUSALS)
        except OSError as error:
            raise NotReady("weights.file", f"{error.filename}: {error.strerror}") from error
        if status in REFUSALS:
            raise _refusal(answer, status)
        return answer

    return post


def version() -> str:
    """Of this software, for the request."""
    return metadata.version("rlu")


def ask(header: Header, software: Software, collect: Collect, post: Post) -> bytes:
    """Ask the broker for the key of sealed weights.

    Raises:
        RluError: as `post`, `collect`, `protocol.parse_challenge`, `protocol.open_key`.
    """
    challenge = protocol.parse_challenge(post(protocol.CHALLENGE_PATH, protocol.CHALLENGE_TYPE, b""))
    private = X25519PrivateKey.generate()
    claims = Claims(
        challenge=challenge,
        public_key=private.public_key().public_bytes_raw(),
        kid=header.kid,
        manifest=header.manifest.sha256,
        software=software,
    )
    encoded = claims.encode()
    request = protocol.encode_request(encoded, collect(protocol.root_of(encoded)))
    return protocol.open_key(post(protocol.RELEASE_PATH, protocol.REQUEST_TYPE, request), claims, private)


def _refusal(answer: bytes, status: int) -> RluError:
    """The broker's reason, as long as it has the form of one; a stranger's text is cut."""
    try:
        told = json.loads(answer)
        code, detail, failures = str(told["code"]), str(told["detail"]), told.get("failures", [])
        named = [str(one)[:128] for one in failures][:64]
    except (ValueError, KeyError, TypeError, AttributeError):
        code, detail, named = "broker.answer", f"status {status} without a reason", []
    if not code.startswith("broker.") or len(code) > 128 or not code.isprintable():
        code = "broker.answer"
    more = f" ({', '.join(named)})" if named else ""
    return NotReleased(code, f"the broker refused: {detail[:1024]}{more}", named)
