"""Continuous re-attestation: the attestor looks at itself as a relying party would, and stops when it does not like what it sees.

With `[attestation] policy` the attestor makes a fresh statement with fresh evidence, for a nonce of its own, every `appraise_s` seconds and
for every gateway that introduces itself, and appraises it with the verifier's own library and the operator's policy. What is rejected is
*drift*: no session is opened any more (`drift`), those that are open are closed, signed, with the reason `drift`, and an event says the
code of what was found. It ends when a later look finds nothing. Until the first look nothing is opened.

The GPUs are counted at every look, with or without a policy: another set of them is another instance, and the former one's sessions are
closed (`instance_changed`), as with every other change of facts. A key that the TPM refuses to use because PCRs changed is drift too;
closes then wait for a state in which the key works, since nothing else may sign them.

It is the operator's safeguard and nobody's proof: a client verifies for itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from rlu_attestation.bundle import Bundle, EvidenceItem
from rlu_attestation.errors import RluError
from rlu_attestation.gpus import Gpus
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Result
from rlu_attestation.verifier import Context, verify
from rlu_server.attestor.attesting import SignedStatement
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.messages import Hello
from rlu_server.attestor.server import Server
from rlu_server.attestor.service import Gateway

LOOK_S = 0.25
NONCE_SIZE = 16
NOT_YET = "policy.not_appraised"
FINAL = frozenset({"tpm.platform_state", "tpm.cleared", "tpm.secret", "key.platform_state"})
"""Refusals of the hardware that no later try will change."""


class Watch:
    """Looks, and acts on what it finds.

    Args:
        policy: the operator's; None: only GPUs and refusals of the hardware are looked at.
        software_key: whether the settings accept one.
        count_gpus: what the drivers say now; blocks.
    """

    def __init__(
        self,
        server: Server,
        policy: Policy | None,
        software_key: bool,
        count_gpus: Callable[[], Gpus | None],
        every_s: float,
        clock: Callable[[], int],
        events: EventLog,
    ) -> None:
        self._server = server
        self._roster = server.roster
        self._policy = policy
        self._software_key = software_key
        self._count_gpus = count_gpus
        self._every_s = every_s
        self._clock = clock
        self._events = events
        self._seen: set[Gateway] = set()
        if policy is not None:
            self._roster.drift = NOT_YET

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            gateways = {gateway for gateway in self._server.gateways if gateway.hello is not None}
            if loop.time() >= due or not gateways <= self._seen:
                due = loop.time() + self._every_s
                self._seen = gateways
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One look at everything."""
        found = await self._gpus() or self._refused()
        if found is None and self._policy is not None:
            found = await self._appraised(self._policy)
        if found == NOT_YET:
            return  # nobody has introduced itself, or the hardware is away for a moment
        before, self._roster.drift = self._roster.drift, found
        if found is not None:
            if before != found:
                self._events.emit(Event.DRIFTED, found)
                self._roster.current.committer.ledger.counting.drifted(found)
            for gateway in self._server.gateways:
                gateway.drift()
        elif before not in (None, NOT_YET):
            self._events.emit(Event.DRIFT_ENDED)

    async def _gpus(self) -> str | None:
        try:
            gpus = await asyncio.to_thread(self._count_gpus)
        except RluError as error:
            return error.code
        for instance in self._roster:
            instance.attesting.gpus = gpus
        for gateway in self._server.gateways:
            gateway.tend()
        return None

    def _refused(self) -> str | None:
        cause = self._roster.current.committer.cause
        return cause if cause in FINAL else None

    async def _appraised(self, policy: Policy) -> str | None:
        """The code of the first failure, for any gateway; None if there is none."""
        known = self._roster.drift
        for gateway in self._server.gateways:
            hello = gateway.hello
            if hello is None:
                continue
            nonce = secrets.token_bytes(NONCE_SIZE)
            try:
                made = await self._roster.current.attesting.statement(hello, nonce)
            except RluError:
                return self._refused() or known
            code = await asyncio.to_thread(self._judge, policy, made, hello, nonce)
            if code is not None:
                return code
            known = None
        return known

    def _judge(self, policy: Policy, made: SignedStatement, hello: Hello, nonce: bytes) -> str | None:
        evidence = tuple(EvidenceItem(kind, item) for kind, item in sorted(made.evidence.items()))
        verdict = verify(
            Context(
                bundle=Bundle(statement=made.jws, evidence=evidence),
                policy=policy,
                at=self._clock(),
                nonce=nonce,
                channel=hello.tls_spki_sha256,
                plaintext=hello.tls_spki_sha256 is None,
                insecure_accept_software_key=self._software_key,
            )
        )
        if verdict.result in (Result.VERIFIED, Result.WAIVED):
            return None
        return verdict.failures[0].code if verdict.failures else verdict.result.value
