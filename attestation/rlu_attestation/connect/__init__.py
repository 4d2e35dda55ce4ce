"""`rlu connect`: a client's side of the proof. Verify the instance first, prove every answer, and let nothing unproven pass for a success.

The core is pure: `relay` and `guard` decide, `screen` and `sse` say what of a stream must wait, `session` proves. They yield commands
(`steps`), which a shell does: `link` for threads, `async_link` for event loops. Upon these are built the transports for in-process use
and the local proxy (`proxy`, `run`). It needs the extra `connect`; nothing that verifies imports it.
"""

from rlu_attestation.connect.status import Status
from rlu_attestation.connect.transport import AsyncVerifyingTransport, VerifyingTransport

__all__ = ["AsyncVerifyingTransport", "Status", "VerifyingTransport"]
