"""Programs: the SDKs of OpenAI and Anthropic in Python and JavaScript, and OpenAI's Agents SDK. Each file runs as it is and says hello."""

from __future__ import annotations

from rlu_attestation.clients.setup import File, Server, Setup, quoted


def python(server: Server) -> Setup:
    """Both SDKs for Python."""
    text = f"""\
\"\"\"OpenAI's and Anthropic's SDK with RLU. The key is in the environment, as {server.key_variable}.\"\"\"

import os
{_imports(server, "anthropic", "openai")}
KEY = os.environ["{server.key_variable}"]
{_trusted(server)}
gpt = openai.OpenAI(
    base_url={quoted(server.openai_url)},
    api_key=KEY,
{_client(server, "openai.DefaultHttpxClient")})
claude = anthropic.Anthropic(
    base_url={quoted(server.url)},
    api_key=KEY,
{_client(server, "anthropic.DefaultHttpxClient")})

if __name__ == "__main__":
    print(gpt.responses.create(model={quoted(server.model)}, input="Say hello").output_text)
    hello = claude.messages.create(
        model={quoted(server.model)},
        max_tokens=256,
        messages=[{{"role": "user", "content": "Say hello"}}],
    )
    print("".join(block.text for block in hello.content if block.type == "text"))
"""
    return Setup(
        (File("rlu_client.py", text),),
        {},
        ("python", "{directory}/rlu_client.py"),
        "pip install openai anthropic",
    )


def agents(server: Server) -> Setup:
    """OpenAI's Agents SDK for Python."""
    text = f"""\
\"\"\"OpenAI's Agents SDK with RLU. The key is in the environment, as {server.key_variable}.\"\"\"

import os
{_imports(server, "agents", "openai")}
{_trusted(server).lstrip()}
client = openai.AsyncOpenAI(
    base_url={quoted(server.openai_url)},
    api_key=os.environ["{server.key_variable}"],
{_client(server, "openai.DefaultAsyncHttpxClient")})
agents.set_default_openai_client(client, use_for_tracing=False)
agents.set_tracing_disabled(True)  # traces hold prompts, and go to OpenAI

agent = agents.Agent(name="Hello", instructions="Be brief.", model={quoted(server.model)})

if __name__ == "__main__":
    print(agents.Runner.run_sync(agent, "Say hello").final_output)
"""
    return Setup(
        (File("rlu_agents.py", text),),
        {},
        ("python", "{directory}/rlu_agents.py"),
        "pip install openai-agents",
    )


def javascript(server: Server) -> Setup:
    """Both SDKs for JavaScript."""
    text = f"""\
// OpenAI's and Anthropic's SDK with RLU. The key is in the environment, as {server.key_variable}.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const apiKey = process.env.{server.key_variable};
export const gpt = new OpenAI({{ baseURL: {quoted(server.openai_url)}, apiKey }});
export const claude = new Anthropic({{ baseURL: {quoted(server.url)}, apiKey }});

const answer = await gpt.responses.create({{ model: {quoted(server.model)}, input: "Say hello" }});
console.log(answer.output_text);
const hello = await claude.messages.create({{
  model: {quoted(server.model)},
  max_tokens: 256,
  messages: [{{ role: "user", content: "Say hello" }}],
}});
console.log(hello.content.map((block) => (block.type === "text" ? block.text : "")).join(""));
"""
    return Setup(
        (File("rlu_client.mjs", text),),
        server.trust("NODE_EXTRA_CA_CERTS"),
        ("node", "{directory}/rlu_client.mjs"),
        "npm install openai @anthropic-ai/sdk",
    )


def _imports(server: Server, *names: str) -> str:
    standard = "" if server.ca_file is None else "import ssl\n"
    return standard + "\n" + "".join(f"import {name}\n" for name in names)


def _trusted(server: Server) -> str:
    if server.ca_file is None:
        return ""
    return f"TRUST = ssl.create_default_context(cafile={quoted(str(server.ca_file))})\n"


def _client(server: Server, factory: str) -> str:
    return "" if server.ca_file is None else f"    http_client={factory}(verify=TRUST),\n"
