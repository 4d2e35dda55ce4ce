"""A whole attested deployment in memory: a machine, its instance statement, a session with exchanges, a close, and the log they are in.

`Deployment().bundle()` is genuine in every step at `AT`, and `policy()` accepts it. Every part is open to perturbation: fields of the
claims and statements through `replace`-style arguments, bytes of a finished bundle through `dataclasses.replace`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fakes import pki
from fakes.machine import ENDORSED, Machine
from rlu_attestation import canonical, cose, jose
from rlu_attestation.bundle import Bundle, EvidenceItem, Exchange, Logged
from rlu_attestation.channel import Channel
from rlu_attestation.commitment import OPENING_SESSION, Tag, commit, key_digest
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.instance import InstanceClaims, binding, claims_bytes, profile_digest
from rlu_attestation.merkle import Tree, leaf_hash
from rlu_attestation.models import Software
from rlu_attestation.policy import Bound, Policy
from rlu_attestation.statements import (
    Close,
    Content,
    Receipt,
    SessionStatement,
    Usage,
    running_next,
    running_start,
)
from rlu_attestation.verdict import Source, Verdict
from rlu_attestation.verifier import Context, verify

AT = int(pki.AT.timestamp())
NONCE = bytes(range(32))
SPKI = hashlib.sha256(b"the gateway's TLS key").digest()
SESSION = b64u(bytes(range(16)))
KEY = hashlib.sha256(b"the session's commitment key").digest()
REQUEST = b'{"model":"demo","messages":[{"role":"user","content":"hello"}]}'
RESPONSE = b'{"choices":[{"message":{"content":"hello yourself"}}]}'
POSTURE: dict[str, bool | int | str] = {"landlock_abi": 7, "no_new_privs": True, "swap": "off"}


def blind(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()[:16]


def content(tag: Tag, data: bytes, seq: int, session: str = SESSION, key: bytes = KEY) -> Content:
    raw = OPENING_SESSION if tag is Tag.OPENING else unb64u(session)
    return Content(len(data), commit(key, tag, raw, seq, len(data), hashlib.sha256(data).digest()))


@dataclass
class Deployment:
    """One instance. `claims` are changes to the instance claims, `sign` may be replaced by another signer."""

    machine: Machine = field(default_factory=Machine)
    claims: dict[str, Any] = field(default_factory=dict)
    software_key: bool = False
    at: int = AT
    sign: Callable[[bytes], bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.sign = self.machine.sign
        self.jwk = jose.public_jwk(self.machine.tpm.key.public_key())  # type: ignore[arg-type]
        self.kid = jose.thumbprint(self.jwk)
        self.tree = Tree()
        self.leaves: list[bytes] = []

    # --- the instance -----------------------------------------------------------------------------------------------

    def instance_claims(self, **changes: Any) -> InstanceClaims:
        fields: dict[str, Any] = {
            "jwk": self.jwk,
            "issued_at": self.at - 10,
            "expires_at": self.at + 7190,
            "nonce": NONCE,
            "oemboot": True,
            "dbgstat": "disabled",
            "key_hardware": "none" if self.software_key else "tpm2",
            "key_created": self.at - 86400,
            "tls": Channel("gateway-memory", SPKI),
            "model_name": "demo",
            "model_manifest": hashlib.sha256(b"manifest").digest(),
            "engine": Software("vllm", "0.32.0", hashlib.sha256(b"arguments").digest()),
            "gateway": Software("rlu", "0.1.0", hashlib.sha256(b"image").digest()),
            "hardware_profile": "cpu-demo",
            "lock": {role: dict(POSTURE) for role in ("attestor", "engine", "gateway")},
            "start_count": 3,
            **ENDORSED,
        }
        return InstanceClaims(**(fields | self.claims | changes))

    @property
    def issuer(self) -> str:
        return self.instance_claims().issuer

    @property
    def profile(self) -> bytes:
        return profile_digest(canonical.decode(self.instance_claims().encode()))

    def attestation(self, item: bytes | None = None, **changes: Any) -> tuple[str, tuple[EvidenceItem, ...]]:
        """Statement and evidence; `item` replaces the evidence item."""
        claims = self.instance_claims(**changes)
        bound = binding(claims_bytes(canonical.decode(claims.encode())))
        kind = "none" if self.software_key else "tpm2"
        if item is None:
            item = b'{"kind":"none"}' if self.software_key else self.machine.evidence(bound)
        signed = replace(claims, evidence={kind: hashlib.sha256(item).digest()})
        return self.jws(signed.encode()), (EvidenceItem(kind, item),)

    def jws(self, payload: bytes, kid: bytes | None = None) -> str:
        signing_input = jose.jws_signing_input(self.kid if kid is None else kid, payload)
        return jose.jws_assemble(signing_input, self.sign(signing_input))

    # --- the log ----------------------------------------------------------------------------------------------------

    def append(self, statement: bytes) -> int:
        self.leaves.append(statement)
        return self.tree.append(leaf_hash(statement))

    def protected(self, size: int, **changes: Any) -> bytes:
        fields = {"kid": self.kid, "issuer": self.issuer, "iat": self.at - 1, "tree_size": size}
        return cose.head_protected(**(fields | changes))

    def receipt_for(self, index: int, size: int | None = None, **changes: Any) -> bytes:
        size = self.tree.size if size is None else size
        protected = self.protected(size, **changes)
        signature = self.sign(cose.signature_input(protected, self.tree.root(size)))
        return cose.assemble_inclusion(
            protected, signature, size, index, self.tree.inclusion_path(index, size)
        )

    def logged(self, index: int, size: int | None = None, **changes: Any) -> Logged:
        return Logged(self.leaves[index], self.receipt_for(index, size, **changes))

    def head(self, size: int | None = None, **changes: Any) -> bytes:
        size = self.tree.size if size is None else size
        protected, root = self.protected(size, **changes), self.tree.root(size)
        return cose.assemble_head(protected, root, self.sign(cose.signature_input(protected, root)))

    # --- statements -------------------------------------------------------------------------------------------------

    def session_statement(self, **changes: Any) -> SessionStatement:
        fields: dict[str, Any] = {
            "issuer": self.issuer,
            "session": SESSION,
            "issued_at": self.at - 8,
            "expires_at": self.at + 3600,
            "instance": self.profile,
            "nonce": NONCE,
            "client_key": None,
            "tenant": "tenant-1",
            "principal": "principal-1",
            "channel": self.instance_claims().tls,
            "commitment_key": key_digest(KEY),
            "opening": None,
            "policies": ("default",),
            "blind": blind("session"),
        }
        return SessionStatement(**(fields | changes))

    def receipt_statement(self, session_leaf: bytes, seq: int, /, **changes: Any) -> Receipt:
        fields: dict[str, Any] = {
            "issuer": self.issuer,
            "session": SESSION,
            "session_leaf": session_leaf,
            "seq": seq,
            "issued_at": self.at - 5,
            "route": "/v1/chat/completions",
            "model": "demo",
            "status": "complete",
            "http_status": 200,
            "request": content(Tag.REQUEST, request(seq), seq),
            "forwarded": content(Tag.FORWARDED, request(seq), seq),
            "rewritten": (),
            "response": content(Tag.RESPONSE, response(seq), seq),
            "usage": Usage(11, 7, 0),
            "reason": None,
            "blind": blind(f"receipt {seq}"),
        }
        return Receipt(**(fields | changes))

    def close_statement(self, session: bytes, receipts: list[bytes], /, **changes: Any) -> Close:
        running = running_start(session)
        for receipt in receipts:
            running = running_next(running, leaf_hash(receipt))
        fields: dict[str, Any] = {
            "issuer": self.issuer,
            "session": SESSION,
            "session_leaf": leaf_hash(session),
            "issued_at": self.at - 2,
            "last_seq": len(receipts),
            "count": len(receipts),
            "running": running,
            "reason": "client",
            "scratch": "wiped",
            "blind": blind("close"),
        }
        return Close(**(fields | changes))

    # --- bundles ----------------------------------------------------------------------------------------------------

    def bundle(
        self,
        exchanges: int = 2,
        *,
        item: bytes | None = None,
        instance: dict[str, Any] | None = None,
        session: dict[str, Any] | None = None,
        receipts: dict[int, dict[str, Any]] | None = None,
        close: dict[str, Any] | None = None,
        order: tuple[int, ...] | None = None,
    ) -> Bundle:
        """Everything, signed as the attestor signs it; the arguments change fields before that.

        `order` is the order in which exchanges 1, 2 … are logged.
        """
        statement, evidence = self.attestation(item, **(instance or {}))
        opened = self.session_statement(**(session or {})).encode()
        self.append(b"somebody else's session")
        first = self.append(opened)
        opening = self.logged(first)  # a head of its own, before there were receipts
        made = {
            seq: self.receipt_statement(leaf_hash(opened), seq, **(receipts or {}).get(seq, {})).encode()
            for seq in range(1, exchanges + 1)
        }
        indexes = {}
        for seq in order or tuple(made):
            indexes[seq] = self.append(made[seq])
            self.append(f"somebody else's receipt {seq}".encode())
        in_order = [made[seq] for seq in order or tuple(made)]
        closing = self.append(self.close_statement(opened, in_order, **(close or {})).encode())
        return Bundle(
            statement=statement,
            evidence=evidence,
            channel=SPKI,
            nonce=NONCE,
            session=opening,
            commitment_key=KEY,
            exchanges=tuple(Exchange(self.logged(indexes[seq]), request(seq), response(seq)) for seq in made),
            close=self.logged(closing),
            head=self.head(),
        )

    def policy(self, **changes: Any) -> Policy:
        """A policy that accepts this deployment, and nothing `unsafe_`."""
        claims = self.instance_claims()
        fields: dict[str, Any] = {
            "ek_roots": self.machine.ek_roots,
            "registrars": self.machine.registrars,
            "accept": {
                "hardware_profiles": frozenset({claims.hardware_profile}),
                "regions": frozenset({claims.region}),
                "boundaries": frozenset({claims.boundary}),
                "sites": frozenset({claims.site}),
                "models": frozenset({b64u(claims.model_manifest)}),
                "engines": frozenset({f"{claims.engine.name}/{claims.engine.version}"}),
                "engine_arguments": None,
                "gateways": frozenset({f"{claims.gateway.name}/{claims.gateway.version}"}),
                "gateway_images": None,
                "debug_states": frozenset({claims.dbgstat}),
            },
            "pcrs": {"sha256": {0: frozenset({self.machine.tpm.pcrs["sha256"][0]})}},
            "channel_origins": frozenset({"gateway-memory"}),
            "lock": {
                "attestor": None,
                "engine": {"no_new_privs": Bound(values=(True,)), "landlock_abi": Bound(at_least=4)},
                "gateway": {"swap": Bound(values=("off", "none"))},
            },
            "minimum_source": {"key": Source.HARDWARE, "region": Source.ENDORSED},
            "default_source": Source.ASSERTED,
        }
        return Policy(**(fields | changes))


def request(seq: int) -> bytes:
    return REQUEST + b" " * seq


def response(seq: int) -> bytes:
    return RESPONSE + b"\n" * seq


def verdict_of(
    deployment: Deployment, bundle: Bundle, policy: Policy | None = None, **changes: Any
) -> Verdict:
    """The verdict of a caller that knows its own nonce and channel; `changes` are to its `Context`."""
    fields: dict[str, Any] = {
        "bundle": bundle,
        "policy": deployment.policy() if policy is None else policy,
        "at": deployment.at,
        "nonce": NONCE,
        "channel": SPKI,
    }
    return verify(Context(**(fields | changes)))


def findings(verdict: Verdict) -> list[str]:
    """Codes of the failed steps, without those that only depend on another failure."""
    return sorted({step.code for step in verdict.failures if not step.code.endswith(".not_checked")})
