"""Formatter for the engine's own loggers: where a record comes from, never what it says.

vLLM quotes prompts, model names, tool arguments and exception texts in its messages. This file is put on the engine's module search path
(it uses the standard library only), and `logging.json` names it. Until the engine can be reached by clients, which is when the socket
named by `RLU_ENGINE_SERVING` is there, messages are shown: there is no content yet, and an operator must learn why a model does not load.
"""

from __future__ import annotations

import logging
import os
import re

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class PlaceOnly(logging.Formatter):
    """`rlu-log LEVEL LOGGER FILE:LINE EXCEPTION`; the exception is the name of its class, or `-`."""

    def format(self, record: logging.LogRecord) -> str:
        kind = "-"
        if record.exc_info and record.exc_info[0] is not None:
            kind = record.exc_info[0].__name__
        kind = kind if _IDENTIFIER.fullmatch(kind) else "-"
        place = f"rlu-log {record.levelname} {record.name} {record.filename}:{record.lineno} {kind}"
        serving = os.environ.get("RLU_ENGINE_SERVING")
        if serving and not os.path.exists(serving) and record.levelno >= logging.WARNING:
            return f"{place}\n{super().format(record)}"
        return place
