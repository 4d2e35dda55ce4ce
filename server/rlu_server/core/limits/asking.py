"""Which class of priority a request asks for.

`RLU-Priority: interactive` or `batch`, for every API; else OpenAI's `"service_tier": "flex"` means batch. Nobody can ask for more than
the limits file allows.
"""

from __future__ import annotations

from collections.abc import Mapping

from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.rules import Priority

HEADER = b"rlu-priority"
_CLASSES = {b"interactive": Priority.INTERACTIVE, b"batch": Priority.BATCH}


def asked(headers: Mapping[bytes, bytes], *, flex: bool) -> Priority:
    """The class that is asked for.

    Args:
        headers: lower-case names.
        flex: the body says `"service_tier": "flex"`.

    Raises:
        GatewayError: `field_type`, when the header says something else.
    """
    value = headers.get(HEADER)
    if value is None:
        return Priority.BATCH if flex else Priority.INTERACTIVE
    found = _CLASSES.get(value.strip().lower())
    if found is None:
        raise GatewayError(
            "field_type", "`RLU-Priority` must be `interactive` or `batch`.", param="RLU-Priority"
        )
    return found
