"""Codex CLI: a profile (`codex --profile rlu`) with the provider and a starter pack of roles.

A profile is layered on the user's own config.toml, which stays as it is. Tried with Codex 0.169 and `--strict-config`.
"""

from __future__ import annotations

from rlu_attestation.clients.roles import EFFORTS, ROLES, Effort, Role
from rlu_attestation.clients.setup import File, Server, Setup, quoted

PROFILE = "rlu"
ROLES_AT = "rlu-agents"
"""Not `agents/`: what is there Codex offers to every profile, also to those without this server."""
THREADS = 12
RETRIES = 10
"""Twice Codex's own; more would have it wait for many minutes where nobody answers, since those waits double."""


def setup(server: Server, *, highest: Effort = "high", roles: bool = True) -> Setup:
    """The profile; `highest` is the most effort that the model's templates take (gpt-oss refuses `xhigh`)."""
    packed = ROLES if roles else ()
    files = [File(f"{PROFILE}.config.toml", _profile(server, highest, packed))]
    files += [File(f"{ROLES_AT}/{role.name}.toml", _role(server, role, highest)) for role in packed]
    return Setup(
        tuple(files),
        # Not SSL_CERT_FILE, which the commands that Codex runs would inherit, and then trust nothing else.
        server.trust("CODEX_CA_CERTIFICATE"),
        ("codex", "--profile", PROFILE),
        "npm install --global @openai/codex",
    )


def _profile(server: Server, highest: Effort, roles: tuple[Role, ...]) -> str:
    window = "" if server.context_window is None else f"model_context_window = {server.context_window}\n"
    text = f"""\
# Codex with RLU: `codex --profile {PROFILE}`. The key is in the environment, as {server.key_variable}.
model = {quoted(server.model)}
model_provider = "{PROFILE}"
model_reasoning_effort = "{lowered("high", highest)}"
{window}# Nothing is asked or told elsewhere.
check_for_update_on_startup = false
web_search = "disabled"

[model_providers.{PROFILE}]
name = "RLU"
base_url = {quoted(server.openai_url)}
wire_api = "responses"
env_key = "{server.key_variable}"
# Where a limit says when to come back (429), Codex does, so many times; a limit of concurrent requests should allow for all agents.
stream_max_retries = {RETRIES}

[analytics]
enabled = false
"""
    if not roles:
        return text
    # Two levels: an orchestrator that was itself spawned can still delegate.
    text += f"\n[agents]\nmax_threads = {THREADS}\nmax_depth = 2\n"
    for role in roles:
        text += f"\n[agents.{role.name}]\n"
        text += f'description = {quoted(role.description)}\nconfig_file = "{ROLES_AT}/{role.name}.toml"\n'
    return text


def _role(server: Server, role: Role, highest: Effort) -> str:
    return (
        f"model = {quoted(server.small_model if role.quick else server.model)}\n"
        f'model_reasoning_effort = "{lowered(role.effort, highest)}"\n'
        'approval_policy = "never"\n'
        f'sandbox_mode = "{role.sandbox}"\n'
        f'developer_instructions = """\n{role.instructions}"""\n'
    )


def lowered(effort: Effort, highest: Effort) -> Effort:
    """The effort, or the highest there is."""
    return min(effort, highest, key=EFFORTS.index)
