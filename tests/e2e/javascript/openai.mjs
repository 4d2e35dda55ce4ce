// What agents do with OpenAI's SDK for JavaScript, one scenario a run: `node openai.mjs SCENARIO`.
// BASE_URL, API_KEY and MODEL are given; the engine answers by a script that the test has set. Whatever is not as it should be throws.
import assert from "node:assert/strict";
import OpenAI from "openai";

const { BASE_URL, API_KEY: apiKey, MODEL: model, RUNS: runs } = process.env;
const baseURL = `${BASE_URL}/v1`;
const gpt = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PARAMETERS = { type: "object", properties: { at: { type: "string" } }, required: ["at"], additionalProperties: false };

async function refused(promise, status, code) {
  const error = await promise.then(() => assert.fail(`expected ${code}`), (reason) => reason);
  assert.ok(error instanceof OpenAI.APIError, String(error));
  assert.deepEqual([error.status, error.code], [status, code]);
  return error;
}

const scenarios = {
  async models() {
    const names = [];
    for await (const one of gpt.models.list()) names.push(one.id);
    assert.ok(names.includes(runs) && names.includes(model), String(names));
    assert.equal((await gpt.models.retrieve(model)).id, model);
    await refused(gpt.chat.completions.create({ model: "nothing", messages: [{ role: "user", content: "x" }] }), 404, "model_not_found");
    await refused(new OpenAI({ baseURL, apiKey: "rlu_wrong", maxRetries: 0 }).models.list(), 401, "key_invalid");
  },

  // The SDK's own loop: two calls at once, their results sent back, the last answer streamed.
  async tools() {
    const looked = [];
    const look = ({ at }) => `${looked.push(at)} is there`;
    const runner = gpt.chat.completions.runTools({
      model,
      stream: true,
      messages: [{ role: "user", content: "Look here and there." }],
      tools: [{ type: "function", function: { name: "look", function: look, parse: JSON.parse, parameters: PARAMETERS, description: "Look." } }],
    });
    assert.equal(await runner.finalContent(), "Both are there.");
    assert.deepEqual(looked, ["here", "there"]);
    assert.equal((await runner.finalChatCompletion()).model, runs);
  },

  // Reasoning, text and two calls in one answer; everything is sent back, as agents do that keep nothing at the server.
  async items() {
    const input = [{ role: "user", content: "Look here and there." }];
    const tools = [{ type: "function", name: "look", parameters: PARAMETERS, strict: true }];
    const ask = { model, tools, parallel_tool_calls: true, store: false, prompt_cache_key: "k", include: ["reasoning.encrypted_content"], reasoning: { effort: "high" } };
    const stream = gpt.responses.stream({ ...ask, input });
    const kinds = new Set();
    for await (const event of stream) kinds.add(event.type);
    const first = await stream.finalResponse();
    for (const kind of ["response.reasoning_text.delta", "response.output_text.delta", "response.function_call_arguments.delta", "response.completed"])
      assert.ok(kinds.has(kind), kind);
    assert.deepEqual(first.output.map((item) => item.type), ["reasoning", "message", "function_call", "function_call"]);
    assert.equal(first.model, runs);
    const calls = first.output.filter((item) => item.type === "function_call");
    assert.deepEqual(calls.map((call) => JSON.parse(call.arguments).at), ["here", "there"]);
    const results = calls.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: "there" }));
    const second = await gpt.responses.create({ ...ask, input: [...input, ...first.output, ...results] });
    assert.equal(second.output_text, "Both are there.");
    await refused(gpt.responses.retrieve(second.id), 404, "response_not_found");
  },

  // The same kept at the server: only what is new is sent.
  async kept() {
    const tools = [{ type: "function", name: "look", parameters: PARAMETERS, strict: true }];
    const first = await gpt.responses.create({ model, tools, store: true, input: "Look here and there." });
    const calls = first.output.filter((item) => item.type === "function_call");
    assert.equal(calls.length, 2);
    const stream = gpt.responses.stream({
      model,
      tools,
      previous_response_id: first.id,
      input: calls.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: "there" })),
    });
    const second = await stream.finalResponse();
    assert.equal(second.output_text, "Both are there.");
    assert.equal((await gpt.responses.retrieve(second.id)).output_text, "Both are there.");
    const items = [];
    for await (const item of gpt.responses.inputItems.list(second.id, { limit: 2, order: "asc" })) items.push(item.type);
    assert.deepEqual(items, ["message", "reasoning", "message", "function_call", "function_call", "function_call_output", "function_call_output"]);
    await refused(gpt.responses.cancel(second.id), 400, "cancel_unsupported");
    await gpt.responses.delete(second.id);
    await refused(gpt.responses.retrieve(second.id), 404, "response_not_found");
    await refused(gpt.responses.create({ model, input: "x", previous_response_id: second.id }), 400, "previous_response_not_found");
    await refused(gpt.responses.create({ model, input: "x", background: true }), 400, "background_unsupported");
  },

  async images() {
    const shown = (url) => [{ role: "user", content: [{ type: "text", text: "What is it?" }, { type: "image_url", image_url: { url } }] }];
    const answer = await gpt.chat.completions.create({ model, messages: shown(PIXEL) });
    assert.equal(answer.choices[0].finish_reason, "stop");
    await refused(gpt.chat.completions.create({ model, messages: shown("https://elsewhere.example/x.png") }), 400, "remote_media");
    const item = (image_url) => [{ role: "user", content: [{ type: "input_image", image_url, detail: "auto" }] }];
    assert.equal((await gpt.responses.create({ model, input: item(PIXEL) })).status, "completed");
    await refused(gpt.responses.create({ model, input: item("https://elsewhere.example/x.png") }), 400, "remote_media");
  },

  // Leaves in the middle of an answer that would never end.
  async cancel() {
    const chat = await gpt.chat.completions.create({ model, stream: true, messages: [{ role: "user", content: "x" }] });
    for await (const chunk of chat) if (chunk.choices[0]?.delta.content) break;
    const events = await gpt.responses.create({ model, stream: true, input: "x" });
    for await (const event of events) if (event.type === "response.output_text.delta") events.controller.abort();
  },

  // One thing at a time is allowed. The second is refused, with how long to wait; the SDK waits, and by then the first is over.
  async retry() {
    const statuses = [];
    const held = await gpt.chat.completions.create({ model, stream: true, messages: [{ role: "user", content: "x" }], metadata: { script: "endless" } });
    const counting = async (...request) => {
      const response = await fetch(...request);
      statuses.push(response.status);
      if (response.status === 429) {
        assert.ok(Number(response.headers.get("retry-after")) > 0);
        held.controller.abort();
      }
      return response;
    };
    const patient = new OpenAI({ baseURL, apiKey, maxRetries: 5, fetch: counting });
    const answer = await patient.responses.create({ model, input: "x" });
    assert.equal(answer.status, "completed");
    assert.deepEqual([statuses[0], statuses.at(-1)], [429, 200]);
  },
};

await scenarios[process.argv[2]]();
