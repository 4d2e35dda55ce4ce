"""The broker's one decision, from a request's bytes to a sealed key, with the journal's line before the answer.

1  the request is well-formed, and answers a challenge of ours, which is thereby used up
2  the key is here, not revoked, and of the model that the asker names
3  the hardware may have it (`appraisal`)
4  the journal has the line
5  the key is sealed to the asker's public key, for this request
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_server.broker import protocol
from rlu_server.broker.appraisal import appraise
from rlu_server.broker.challenges import Challenges
from rlu_server.broker.errors import NotReleased
from rlu_server.broker.journal import Journal
from rlu_server.broker.protocol import Claims
from rlu_server.broker.vault import Vault


class Desk:
    """Decides; no socket here. Safe for threads.

    Args:
        clock: seconds since the epoch, for certificates and the journal.
        monotonic: seconds, for challenges.
        random: that many random bytes.
        tell: told each decision: event, code.
    """

    def __init__(
        self,
        vault: Vault,
        journal: Journal,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        random: Callable[[int], bytes],
        tell: Callable[[str, str], None],
    ) -> None:
        self._vault = vault
        self._journal = journal
        self._clock = clock
        self._monotonic = monotonic
        self._random = random
        self._tell = tell
        self._challenges = Challenges(random(32))

    def challenge(self) -> bytes:
        """The answer to who wants to ask."""
        return protocol.encode_challenge(self._challenges.make(self._monotonic(), self._random(24)))

    def release(self, data: bytes, peer: str) -> bytes:
        """The answer to a request.

        Args:
            peer: address of who asks, for the journal.

        Raises:
            RluError: why not; from step 2 on the journal says so too.
        """
        try:
            encoded, evidence = protocol.parse_request(data)
            claims = Claims.parse(encoded)
            self._challenges.use(claims.challenge, self._monotonic())  # 1
        except RluError as error:
            # Whoever reaches us can cause these, and they tell nothing: no line in the journal.
            self._tell("broker_refused", error.code)
            raise
        now = int(self._clock())
        entry: dict[str, Any] = {
            "time": now,
            "kid": b64u(claims.kid),
            "manifest_sha256": b64u(claims.manifest),
            "claims_sha256": b64u(hashlib.sha256(encoded).digest()),
            "peer": peer,
        }
        try:
            key, policy = self._vault.releasable(claims.kid)  # 2
            entry |= {"name": key.name, "policy_sha256": b64u(policy.digest)}
            if key.manifest != claims.manifest:
                raise NotReleased("broker.model.other", "this key is another model's")
            accepted = appraise(protocol.root_of(encoded), evidence, policy, now)  # 3
            answer = protocol.seal_key(key.key, claims)  # 5, kept until 4
        except RluError as error:
            failures = list(error.failures) if isinstance(error, NotReleased) else []
            self._journal.add(
                {
                    **entry,
                    "event": "refused",
                    "code": error.code,
                    **({"failures": failures} if failures else {}),
                }
            )
            self._tell("broker_refused", error.code)
            raise
        self._journal.add(  # 4
            {
                **entry,
                "event": "released",
                "evidence": accepted.kind,
                "hardware": accepted.hardware,
                "measurements": dict(accepted.measurements),
                "gpus": list(accepted.gpus),
                "waived": list(accepted.waived),
                "software": f"{claims.software.name} {claims.software.version}",
            }
        )
        self._tell("broker_released", b64u(claims.kid))
        return answer
