"""A scripted stand-in for vLLM: same HTTP interface, no model.

`script` says what is answered, `chat`, `responses` and `messages` put that into the bytes of each API as vLLM 0.32 writes them, and
`server` sends them at the configured pace with the configured faults.
"""

from scripted.script import Call, Fault, Script, ScriptBook, ScriptError, Turn, load_book
from scripted.server import Engine, Seen, serve

__all__ = [
    "Call",
    "Engine",
    "Fault",
    "Script",
    "ScriptBook",
    "ScriptError",
    "Seen",
    "Turn",
    "load_book",
    "serve",
]
