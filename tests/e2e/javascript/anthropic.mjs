// What agents do with Anthropic's SDK for JavaScript, one scenario a run: `node anthropic.mjs SCENARIO`. As openai.mjs.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const { BASE_URL: baseURL, API_KEY: apiKey, MODEL: model, RUNS: runs } = process.env;
const claude = new Anthropic({ baseURL, apiKey, maxRetries: 0 });

const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const TOOL = { name: "look", description: "Look.", input_schema: { type: "object", properties: { at: { type: "string" } }, required: ["at"] } };
const ask = { model, max_tokens: 2048 };
const hello = [{ role: "user", content: "hello" }];

async function refused(promise, status, type) {
  const error = await promise.then(() => assert.fail(`expected ${type}`), (reason) => reason);
  assert.ok(error instanceof Anthropic.APIError, String(error));
  assert.deepEqual([error.status, error.error?.error?.type], [status, type]);
}

const scenarios = {
  async models() {
    const names = [];
    for await (const one of claude.models.list()) names.push(one.id);
    assert.ok(names.includes(runs), String(names));
    assert.equal((await claude.models.retrieve(model)).display_name, runs);
    await refused(claude.messages.create({ ...ask, model: "nothing", messages: hello }), 404, "not_found_error");
    await refused(new Anthropic({ baseURL, apiKey: "rlu_wrong", maxRetries: 0 }).models.list(), 401, "authentication_error");
  },

  // Thinking, text and two calls at once; all of it goes back with both results.
  async tools() {
    const messages = [{ role: "user", content: "Look here and there." }];
    const more = { ...ask, tools: [TOOL], thinking: { type: "enabled", budget_tokens: 1024 } };
    const first = await claude.messages.stream({ ...more, messages }).finalMessage();
    assert.deepEqual(first.content.map((block) => block.type), ["thinking", "text", "tool_use", "tool_use"]);
    assert.deepEqual([first.stop_reason, first.model], ["tool_use", runs]);
    const calls = first.content.filter((block) => block.type === "tool_use");
    assert.deepEqual(calls.map((call) => call.input.at), ["here", "there"]);
    const results = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "there" }));
    messages.push({ role: "assistant", content: first.content }, { role: "user", content: results });
    const counted = await claude.messages.countTokens({ model, tools: [TOOL], messages });
    assert.ok(counted.input_tokens > 0);
    const second = await claude.messages.create({ ...more, messages });
    assert.deepEqual(second.content.map((block) => block.text), ["Both are there."]);
  },

  async images() {
    const shown = (source) => [{ role: "user", content: [{ type: "image", source }, { type: "text", text: "What is it?" }] }];
    const own = { type: "base64", media_type: "image/png", data: PIXEL };
    assert.equal((await claude.messages.create({ ...ask, messages: shown(own) })).stop_reason, "end_turn");
    const remote = { type: "url", url: "https://elsewhere.example/x.png" };
    await refused(claude.messages.create({ ...ask, messages: shown(remote) }), 400, "invalid_request_error");
  },

  async cancel() {
    const stream = claude.messages.stream({ ...ask, messages: hello });
    stream.on("text", () => stream.abort());
    await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
  },

  async retry() {
    const statuses = [];
    const held = await claude.messages.create({ ...ask, stream: true, messages: hello, metadata: { script: "endless" } });
    const counting = async (...request) => {
      const response = await fetch(...request);
      statuses.push(response.status);
      if (response.status === 429) {
        assert.ok(Number(response.headers.get("retry-after")) > 0);
        held.controller.abort();
      }
      return response;
    };
    const patient = new Anthropic({ baseURL, apiKey, maxRetries: 5, fetch: counting });
    assert.equal((await patient.messages.create({ ...ask, messages: hello })).stop_reason, "end_turn");
    assert.deepEqual([statuses[0], statuses.at(-1)], [429, 200]);
  },
};

await scenarios[process.argv[2]]();
