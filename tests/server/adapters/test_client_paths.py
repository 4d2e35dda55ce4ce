"""No spelling of a path leads to the engine's administrative routes, or to any that the allow list does not name."""

from __future__ import annotations

from fakes.rig import Rig
from rlu_server.core.routes import RELAYED

# What vLLM and its front ends serve beside the relayed routes.
ADMINISTRATIVE = (
    "/sleep", "/wake_up", "/is_sleeping", "/invocations", "/ping", "/tokenize", "/detokenize", "/version", "/server_info", "/load",
    "/reset_prefix_cache", "/reset_mm_cache", "/collective_rpc", "/pause", "/resume", "/scale_elastic_ep", "/start_profile",
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/audio/transcriptions", "/v1/score", "/v1/rerank", "/pooling", "/classify",
    "/docs", "/redoc", "/_scripted",
)  # fmt: skip
SPELLINGS = (
    "{}", "/{}", "{}/", "{};x=1", "{}%00", "{}%20", "{}?x=/v1/chat/completions", "/v1/chat/completions/..{}",
    "/v1/chat/completions/../../..{}",
    "/v1/chat/completions/%2e%2e/%2e%2e/%2e%2e{}", "/v1/chat/completions%2f..%2f..%2f..{}", "/v1/chat/completions\\..\\..{}",
    "/v1/models/../..{}", "/v1/models/%2e%2e/%2e%2e{}", "/v1/responses/../..{}", "/v1/responses/%2e%2e%2f%2e%2e{}", "/v1/rlu/../..{}",
    "/v1/rlu/%2e%2e/%2e%2e{}", "/healthz/..{}", "/healthz/%2e%2e{}", "/.well-known/rlu-configuration/../..{}", "/./{}", "/%2e{}",
)  # fmt: skip
NEARLY = (
    "/v1//chat/completions", "//v1/chat/completions", "/v1/chat/completions/", "/v1/chat/completions;x", "/v1/chat/completions%00",
    "/v1/chat%2fcompletions", "/v1/%63hat/completions", "/v1/chat/./completions", "/V1/chat/completions", "/v1/Chat/Completions",
    "/v1/chat\\completions", "/v1/chat/completions%3fx", "/v1/chat/completions/render", "/metrics/", "/healthz%00", "/openapi.json/..",
    "/v1/responses/%2e%2e",
)  # fmt: skip


async def test_no_spelling_leads_anywhere(rig: Rig):
    rig.engine.seen.clear()
    paths = {*NEARLY, *(spelling.format(path) for path in ADMINISTRATIVE for spelling in SPELLINGS)}
    codes = set()
    wire = await rig.wire()
    for path in sorted(paths):
        for method, body in (("GET", None), ("POST", rig.chat())):
            await wire.send(rig.request(path, body, method=method))
            answer = await wire.response()
            document = answer.json()
            code = document["code"] if "code" in document else document["error"]["code"]
            assert (answer.status, code) in REFUSALS, (method, path)
            codes.add(code)
    assert len(codes) == len(REFUSALS)
    assert [seen.target for seen in rig.engine.seen if seen.method == "POST"] == []
    assert {seen.target for seen in rig.engine.seen} <= {"/health", "/metrics"}


REFUSALS = {
    (404, "route_not_found"),
    (404, "model_not_found"),
    (404, "response_not_found"),
    (405, "method_not_allowed"),
}


async def test_the_engine_gets_the_route_s_own_path_and_no_query(rig: Rig):
    rig.engine.seen.clear()
    answer = await rig.call("/v1/chat/completions?x=/../sleep&api-version=1", rig.chat())
    assert answer.status == 200
    assert [seen.target for seen in rig.engine.seen if seen.method == "POST"] == ["/v1/chat/completions"]
    assert b"/v1/chat/completions" in RELAYED
