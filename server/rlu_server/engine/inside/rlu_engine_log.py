"""Formatter for the engine's own loggers: where a record comes from, never what it says.

vLLM quotes prompts, model names, tool arguments and exception texts in its messages. This file is put on the engine's module search path
(it uses the standard library only), and `logging.json` names it.
"""

from __future__ import annotations

import logging
import re

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class PlaceOnly(logging.Formatter):
    """`rlu-log LEVEL LOGGER FILE:LINE EXCEPTION`; the exception is the name of its class, or `-`."""

    def format(self, record: logging.LogRecord) -> str:
        kind = "-"
        if record.exc_info and record.exc_info[0] is not None:
            kind = record.exc_info[0].__name__
        kind = kind if _IDENTIFIER.fullmatch(kind) else "-"
        return f"rlu-log {record.levelname} {record.name} {record.filename}:{record.lineno} {kind}"
