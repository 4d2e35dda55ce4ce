"""How to point clients at the demo, with its real address, key and certificate."""

from __future__ import annotations

from rlu_server.supervisor.demo.proof import Server
from rlu_server.supervisor.demo.state import MODEL_NAME, Demo


def text(demo: Demo, server: Server) -> str:
    """Plain text for the terminal."""
    base = f"{server.url}/v1"
    trusted = server.certificate is not None
    trust = f" --ca-file {server.certificate}" if trusted else ""
    exports = [f"export RLU_API_KEY=$(cat {demo.api_key})"]
    if trusted:
        exports.append(f"export SSL_CERT_FILE={server.certificate}")
    return f"""\
Connect a client (base URL {base}, key in {demo.api_key}{f", CA file {server.certificate}" if trusted else ""}):

  {chr(10).join(f"{line}" if n == 0 else f"  {line}" for n, line in enumerate(exports))}

  curl{" --cacert $SSL_CERT_FILE" if trusted else ""} {base}/chat/completions -H "Authorization: Bearer $RLU_API_KEY" \\
      -H "Content-Type: application/json" -d '{{"model":"{MODEL_NAME}","messages":[{{"role":"user","content":"What is RLU?"}}]}}'

  Codex CLI, Claude Code, opencode, SDKs: their exact configuration, printed; with --write written, after asking.
      rlu clients codex {server.url}{trust}
      (or claude, opencode, python, javascript, agents)

  With every answer proven before it counts:
      rlu connect {server.url} --policy {demo.policy} -- codex exec "What is RLU?"

Verify from anywhere:
  rlu verify {server.url} --policy {demo.policy} --api-key-file {demo.api_key}
Look at what was verified just now:
  rlu inspect {demo.bundle}
"""
