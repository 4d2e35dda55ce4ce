"""Instance statements: composed for a nonce or for the record, bound by evidence, signed.

Requests that wait together share one quote: the quote's qualifying data is the root of a tree over their bindings (FORMATS section 3). Each
statement then needs a signature of its own; batches of leaves go in between, so that a crowd of verifiers does not hold up sessions.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlu_attestation import jose
from rlu_attestation.errors import RluError
from rlu_attestation.gpus import Gpus
from rlu_attestation.instance import InstanceClaims, binding, claims_bytes, profile_digest
from rlu_attestation.mentions import CanaryMention, LicenceMention
from rlu_attestation.merkle import Tree, leaf_hash
from rlu_server.attestor import facts
from rlu_server.attestor.collect.collector import Collector
from rlu_server.attestor.committer import Committer, unavailable
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.messages import Hello
from rlu_server.attestor.platform import BindingProof, Evidence, Platform

MAX_SHARED = 64
"""Statements that share one quote."""
MAX_WAITING = 256


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """An instance statement with its evidence: kind to item."""

    jws: str
    evidence: dict[str, bytes]
    profile: bytes
    issued_at: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    claims: InstanceClaims
    done: asyncio.Future[SignedStatement]


class Attesting:
    """Makes instance statements.

    Args:
        directory: `<runtime>/facts`.
        ttl_s: how long a statement is valid.
        gpus: what is stated of them.
        collectors: of evidence beside the platform's. They block for seconds and have nothing to do with the key, so they run on a thread
            of their own.
        canary: the last canary test, which statements name.
        licence: the licence that was verified last, which they name too.
    """

    def __init__(
        self,
        committer: Committer,
        platform: Platform,
        key: facts.Key,
        directory: Path,
        ttl_s: int,
        clock: Callable[[], int],
        gpus: Gpus | None = None,
        collectors: Sequence[Collector] = (),
        canary: Callable[[], CanaryMention | None] = lambda: None,
        licence: Callable[[], LicenceMention | None] = lambda: None,
    ) -> None:
        self._committer = committer
        self._platform = platform
        self._key = key
        self._kid = jose.thumbprint(key.jwk)
        self._directory = directory
        self._ttl_s = ttl_s
        self._clock = clock
        self.gpus = gpus
        self._collectors = collectors
        self._canary = canary
        self._licence = licence
        self._oemboot = platform.verified_boot
        self.predecessor = key.predecessor
        """May be followed by a later head of the same log, while that one still grows."""
        self._waiting: list[_Waiting] = []
        self._serving: list[_Waiting] = []
        self._ended = False
        self._wake = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Does nobody wait for a statement?"""
        return not (self._waiting or self._serving)

    @property
    def created(self) -> int:
        """When the key was made, in seconds since the epoch."""
        return self._key.created

    @property
    def key(self) -> facts.Key:
        """What statements say of the key, as of now."""
        return replace(self._key, predecessor=self.predecessor)

    @property
    def canary_at(self) -> int | None:
        """When the canary test was reported that statements name."""
        mention = self._canary()
        return None if mention is None else mention.issued_at

    @property
    def jwk(self) -> dict[str, str]:
        """The instance key."""
        return self._key.jwk

    def profile(self, hello: Hello) -> bytes:
        """The instance profile digest as of now, for this gateway.

        Raises:
            RluError: the facts, or what the gateway says of its TLS key, are unusable.
        """
        return profile_digest(self._claims(hello, None).to_json())

    async def statement(self, hello: Hello, nonce: bytes | None) -> SignedStatement:
        """A fresh statement.

        Raises:
            RluError: as `profile`; `overloaded`; `signer_unavailable`.
        """
        if self._ended:
            raise unavailable()
        if len(self._waiting) >= MAX_WAITING:
            raise AttestorError("overloaded", "too many statements wait for a signature")
        waiting = _Waiting(self._claims(hello, nonce), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        return await waiting.done

    async def run(self) -> None:
        """Serve requests until cancelled; who still waits then is refused."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    self._serving, self._waiting = self._waiting[:MAX_SHARED], self._waiting[MAX_SHARED:]
                    try:
                        await self._serve(self._serving)
                    except RluError as error:
                        _refuse(self._serving, error)
                    self._serving = []
        finally:
            self._ended = True
            _refuse([*self._serving, *self._waiting], unavailable())

    async def _serve(self, batch: list[_Waiting]) -> None:
        tree = Tree()
        for waiting in batch:
            tree.append(leaf_hash(binding(claims_bytes(waiting.claims.to_json()))))
        root = tree.root()
        made = {c.kind: await asyncio.to_thread(c.collect, root) for c in self._collectors}
        made[self._platform.kind] = await self._collect(root)
        for index, waiting in enumerate(batch):
            if not waiting.done.cancelled():
                signed = await self._sign(waiting.claims, made, BindingProof.of(tree, index))
                if not waiting.done.done():
                    waiting.done.set_result(signed)

    async def _collect(self, root: bytes) -> Evidence:
        if self._platform.collects_beside:
            return await asyncio.to_thread(self._platform.collect, root)
        return await self._committer.on_signer(lambda: self._platform.collect(root))

    async def _sign(
        self, claims: InstanceClaims, made: Mapping[str, Evidence], proof: BindingProof
    ) -> SignedStatement:
        items = {kind: evidence(proof) for kind, evidence in made.items()}
        digests = {kind: hashlib.sha256(item).digest() for kind, item in items.items()}
        payload = replace(claims, evidence=digests)
        signing_input = jose.jws_signing_input(self._kid, payload.encode())
        digest = hashlib.sha256(signing_input).digest()
        signature = await self._committer.on_signer(lambda: self._platform.sign(digest))
        jws = jose.jws_assemble(signing_input, signature)
        profile = profile_digest(payload.to_json())
        ledger = self._committer.ledger
        if payload.issuer == ledger.issuer:  # not that of a key which only rehearses
            ledger.counting.attested(claims, profile)
        return SignedStatement(jws, items, profile, claims.issued_at)

    def _claims(self, hello: Hello, nonce: bytes | None) -> InstanceClaims:
        known = facts.read(self._directory)
        return facts.claims(
            self.key,
            known,
            hello,
            nonce,
            self._clock(),
            self._ttl_s,
            self._oemboot,
            self.gpus,
            self._canary(),
            self._licence(),
        )


def _refuse(waiting: Sequence[_Waiting], error: RluError) -> None:
    for one in waiting:
        if not one.done.done():
            one.done.set_exception(error)
