#!/usr/bin/env node
// Make bundles from the formats alone, each signed by a software key of its own: node make.mjs DIRECTORY SECONDS.
// Writes them and prints {"accepted": [{"name", "file"}], "refused": […], "stricter": […]}. What is wrong with a refused one was signed as it stands:
// nothing but the meaning gives it away.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { ascii, b64u, utf8 } from "./bytes.mjs";
import { Log, REQUESTS, RESPONSES, ZERO, generate, make, profile, random, stepDown } from "./maker.mjs";

const [directory, now] = [process.argv[2], Number(process.argv[3])];

const put = (more) => (claims) => void Object.assign(claims, more);
const cut = (...names) => (claims) => names.forEach((name) => delete claims[name]);
const first = (how) => ({ receipt: (claims, at, ...rest) => (at === 0 ? how(claims, ...rest) : undefined) });
const receipt = (more) => first(put(more));
const MODEL = { manifest_sha256: ZERO, name: "demo" };
const furtherModel = (name) => ({ engine: { arguments_sha256: ZERO, name: "vllm", version: "0.32.0" }, manifest_sha256: ZERO, name });

const lost = async (claims, given) => {
  cut("rlu_request", "rlu_forwarded", "rlu_response")(claims);
  cut("request", "response")(given);
  put({ rlu_status: "failed", rlu_reason: "gateway_lost", rlu_route: "unknown", rlu_model: "unknown", rlu_http_status: 0 })(claims);
};

// A session whose receipt is under a tree of 2 leaves, and proofs that lead further.
const further = (how) => ({
  sessionSize: 2,
  async bundle(bundle, { log }) {
    bundle.consistency = (await how(log)).map(b64u);
  },
});

const keys = [await generate(), await generate(), await generate()];
const follows = (number) => put({ rlu_log: { start_count: 2, predecessor: { head: b64u(ascii("head")), iss: keys[number].iss } } });
const continued = (...statements) => ({
  key: keys[2],
  instance: follows(1),
  async bundle(bundle) {
    bundle.continuity = await Promise.all(statements.map(([from, to, how]) => stepDown(now, keys[from], keys[to], how)));
  },
});

const ACCEPTED = {
  "with a proof of consistency": further(async (log) => [await log.consistency(2)]),
  "with proofs of consistency on the way": further(async (log) => [await log.consistency(3), await log.consistency(2, 3)]),
  "with a proof that a tree is itself": further(async (log) => [await log.consistency(2, 2)]),
  "with no proofs": { bundle: put({ consistency: [], continuity: [] }) },
  "a key followed another": continued([1, 2]),
  "a key followed two others": continued([0, 1], [1, 2]),
  explicit: {},
  implicit: { implicit: true },
  "logged in another order": { order: ["session", 2, 0, 1, "close"] },
  "a receipt of a lost gateway": first(lost),
  "one cut short": receipt({ rlu_status: "partial", rlu_reason: "engine_lost" }),
  "one rewritten": first(async (claims, given, commitTo) => {
    claims.rlu_forwarded = await commitTo("forwarded", 1, utf8("something else"));
    claims.rlu_rewritten = ["cache_salt"];
  }),
  "nothing forwarded": first(async (claims) => {
    cut("rlu_forwarded")(claims);
    put({ rlu_status: "failed", rlu_reason: "refused", rlu_http_status: 400 })(claims);
  }),
  "an earlier head of the session": { sessionSize: 2 },
  "without a close": { bundle: cut("close") },
  "without a head": { bundle: cut("head") },
  "with a holder's key": { session: put({ cnf: { jkt: ZERO } }) },
  "with policies": { session: put({ rlu_policies: ["default"] }) },
  "with usage": receipt({ rlu_usage: { cached_input_tokens: 0, input_tokens: 3, output_tokens: 4 } }),
  "with a predecessor": { instance: put({ rlu_log: { start_count: 2, predecessor: { head: b64u(ascii("head")), iss: "urn:rlu:instance:before" } } }) },
  "with a canary report": { instance: put({ rlu_canary_report: { digest: ZERO, iat: now, result: "clean" } }) },
  "with a licence": { instance: put({ rlu_licence: { digest: ZERO, exp: now } }) },
  "lapsed within the allowance": { instance: put({ iat: now - 600, exp: now - 60 }) },
  "begun within the allowance": { instance: put({ iat: now + 60 }) },
  "opened by a request with a later number": {
    implicit: true,
    order: ["session", 1, 0, 2, "close"],
    async receipt(claims, at, given, commitTo) {
      const seq = [2, 1, 3][at];
      const commitments = { request: REQUESTS[at], forwarded: REQUESTS[at], response: RESPONSES[at] };
      claims.rlu_seq = seq;
      for (const [tag, content] of Object.entries(commitments)) claims[`rlu_${tag}`] = await commitTo(tag, seq, content);
    },
  },
  "complete, an error, with a reason": receipt({ rlu_http_status: 500, rlu_reason: "why" }),
  "failed without a reason": receipt({ rlu_status: "failed" }),
  "complete, nothing forwarded": first(cut("rlu_forwarded")),
  "rewritten to the same bytes": receipt({ rlu_rewritten: ["cache_salt"] }),
  "rewritten, of nothing": receipt({ rlu_rewritten: [] }),
  "no policies": { session: put({ rlu_policies: [] }) },
  "one lock of three": { instance: put({ rlu_lock: { gateway: { swap: "off" } } }) },
  "a time shortly before the session's": receipt({ iat: now - 65 }),
  "lasts one second": { session: put({ exp: now - 4 }) },
  "with further models": { instance: put({ rlu_further_models: [furtherModel("b"), furtherModel("c")] }) },
  "with signatures of models": {
    instance: put({
      rlu_model: { ...MODEL, signature: { result: "verified", signer: ZERO } },
      rlu_further_models: [{ ...furtherModel("b"), signature: { result: "unsigned" } }, { ...furtherModel("c"), signature: { result: "failed" } }],
    }),
  },
  "with an image": { instance: put({ rlu_gateway: { name: "rlu", version: "0.1.0", image_sha256: ZERO } }) },
};

const otherLog = new Log(now, keys[2], {});
for (const word of ["a", "b", "c", "d", "e", "f"]) await otherLog.append(ascii(word));

// The published verifier looks at these proofs only when a revocation list makes it.
const STRICTER = {
  "consistency: from a head that nothing is under": further(async (log) => [await log.consistency(3)]),
  "consistency: of another log": { key: keys[2], ...further(async () => [await otherLog.consistency(2)]) },
  "consistency: by another key": further(async () => [await otherLog.consistency(2)]),
  "consistency: a head": further(async (log) => [await log.head()]),
  "consistency: a receipt of inclusion": further(async (log) => [await log.receipt(1)]),
  "consistency: with another tree of the head's size": {
    key: keys[2],
    sessionSize: 2,
    async bundle(bundle, { log }) {
      log.leaves = [...log.leaves.slice(0, -1), new Uint8Array(32)];
      bundle.consistency = [b64u(await log.consistency(2))];
    },
  },
};

const REFUSED = {
  "continuity: of another key": continued([0, 2]),
  "continuity: not the predecessor": { ...continued([1, 2]), instance: follows(0) },
  "continuity: no predecessor": { ...continued([1, 2]), instance: undefined },
  "continuity: in another order": continued([1, 2], [0, 1]),
  "continuity: for another successor": continued([1, 0]),
  "continuity: successor of another name": continued([1, 2, { payload: (claims) => void (claims.rlu_successor.iss = "urn:rlu:instance:other") }]),
  "continuity: another typ": continued([1, 2, { header: put({ typ: "eat+jwt" }) }]),
  "continuity: another kid": continued([1, 2, { header: put({ kid: ZERO }) }]),
  "continuity: another iss": continued([1, 2, { payload: put({ iss: "urn:rlu:instance:other" }) }]),
  "continuity: a head of another": continued([1, 2, { payload: put({ rlu_head: b64u(await otherLog.head()) }) }]),
  "continuity: unknown claim": continued([1, 2, { payload: put({ comment: "x" }) }]),
  "continuity: of the future": continued([1, 2, { payload: put({ iat: now + 61 }) }]),
  "continuity: twice": continued([1, 2], [1, 2]),
  "instance: unknown claim": { instance: put({ rlu_colour: "green" }) },
  "instance: a claim is null": { instance: put({ rlu_site: null }) },
  "instance: no oemboot": { instance: cut("oemboot") },
  "instance: no region": { instance: cut("rlu_region") },
  "instance: no site": { instance: cut("rlu_site") },
  "instance: no boundary": { instance: cut("rlu_boundary") },
  "instance: no lock": { instance: cut("rlu_lock") },
  "instance: an empty name": { instance: put({ rlu_model: { manifest_sha256: ZERO, name: "" } }) },
  "instance: signature of the model verified, by nobody": { instance: put({ rlu_model: { ...MODEL, signature: { result: "verified" } } }) },
  "instance: signature of the model failed, by somebody": { instance: put({ rlu_model: { ...MODEL, signature: { result: "failed", signer: ZERO } } }) },
  "instance: signature of the model, another word": { instance: put({ rlu_model: { ...MODEL, signature: { result: "good" } } }) },
  "instance: further models, none": { instance: put({ rlu_further_models: [] }) },
  "instance: further models, too many": { instance: put({ rlu_further_models: Array.from({ length: 64 }, (_, n) => furtherModel(`m${n}`)) }) },
  "instance: further models, no array": { instance: put({ rlu_further_models: furtherModel("b") }) },
  "instance: a further model without a manifest": { instance: put({ rlu_further_models: [{ engine: furtherModel("b").engine, name: "b" }] }) },
  "instance: a further model with another member": { instance: put({ rlu_further_models: [{ ...furtherModel("b"), size: 1 }] }) },
  "instance: two further models of one name": { instance: put({ rlu_further_models: [furtherModel("b"), furtherModel("b")] }) },
  "instance: a further model of the first's name": { instance: put({ rlu_further_models: [furtherModel("demo")] }) },
  "instance: lock of a word": { instance: put({ rlu_lock: { attestor: "fast" } }) },
  "instance: lock with an array": { instance: put({ rlu_lock: { gateway: { swap: ["off"] } } }) },
  "instance: lock of others": { instance: put({ rlu_lock: { attestor: {}, engine: {}, gateway: {}, friend: {} } }) },
  "instance: dbgstat of another word": { instance: put({ dbgstat: "who-knows" }) },
  "instance: another iss": { instance: put({ iss: "urn:rlu:instance:other" }) },
  "instance: another profile": { instance: put({ eat_profile: profile("session") }) },
  "instance: another ueid": { instance: put({ ueid: b64u(new Uint8Array(33)) }) },
  "instance: another hardware": { instance: put({ rlu_key: { created: now, hardware: "tpm2" } }) },
  "instance: no submods": { instance: cut("submods") },
  "instance: lapsed": { instance: put({ iat: now - 600, exp: now - 61 }) },
  "instance: not yet begun": { instance: put({ iat: now + 61 }) },
  "instance: ends before it begins": { instance: put({ iat: now + 30, exp: now - 30 }) },
  "instance: private key member": { instance: (claims) => void (claims.cnf.jwk.alg = "ES256") },
  "instance: plaintext": { instance: put({ rlu_tls: { origin: "plaintext" } }), bundle: cut("channel") },
  "instance: plaintext with a key": { instance: (claims) => void (claims.rlu_tls.origin = "plaintext") },
  "instance: no key of the channel": { instance: (claims) => void delete claims.rlu_tls.spki_sha256 },
  "instance: a short nonce": { instance: put({ eat_nonce: "AAAA" }) },
  "instance: no nonce": { instance: cut("eat_nonce") },
  "header: further member": { jose: put({ cty: "x" }) },
  "header: another typ": { jose: put({ typ: "JWT" }) },
  "header: another kid": { jose: put({ kid: ZERO }) },
  "session: unknown claim": { session: put({ rlu_colour: "green" }) },
  "session: another iss": { session: put({ iss: "urn:rlu:instance:other" }) },
  "session: another nonce": { session: put({ eat_nonce: ZERO }) },
  "session: short id": { session: put({ jti: "AAAA" }) },
  "session: no blind": { session: cut("rlu_blind") },
  "session: short blind": { session: put({ rlu_blind: "AAAA" }) },
  "session: nonce and none": { session: put({ rlu_freshness: "none" }) },
  "session: neither nonce nor none": { session: cut("eat_nonce") },
  "session: another freshness": { implicit: true, session: put({ rlu_freshness: "some" }) },
  "session: implicit without opening": { implicit: true, session: cut("rlu_opening") },
  "session: explicit with opening": { session: put({ rlu_opening: { bytes: 1, commitment: ZERO } }) },
  "session: another opening": { implicit: true, session: (claims) => void (claims.rlu_opening.commitment = ZERO) },
  "session: longer opening": { implicit: true, session: (claims) => void (claims.rlu_opening.bytes += 1) },
  "session: opened by another request": { implicit: true, order: ["session", 1, 2, "close"], close: put({ rlu_last_seq: 3 }) },
  "session: another instance": { session: put({ rlu_instance: ZERO }) },
  "session: another channel": { session: (claims) => void (claims.rlu_channel.spki_sha256 = ZERO) },
  "session: another origin": { session: (claims) => void (claims.rlu_channel.origin = "provisioned") },
  "session: another commitment key": { session: put({ rlu_commitment_key: ZERO }) },
  "session: ends before it begins": { session: put({ iat: now + 30, exp: now - 30 }) },
  "session: lapsed": { session: put({ iat: now - 900, exp: now - 61 }) },
  "session: not yet begun": { session: put({ iat: now + 61 }) },
  "session: tenant empty": { session: put({ rlu_tenant: "" }) },
  "receipt: unknown claim": receipt({ rlu_colour: "green" }),
  "receipt: another profile": receipt({ eat_profile: profile("close") }),
  "receipt: another session": receipt({ rlu_session: b64u(random(16)) }),
  "receipt: another leaf": receipt({ rlu_session_leaf: ZERO }),
  "receipt: number 0": receipt({ rlu_seq: 0 }),
  "receipt: number twice": receipt({ rlu_seq: 2 }),
  "receipt: number beyond the last": receipt({ rlu_seq: 9 }),
  "receipt: another status": receipt({ rlu_status: "fine" }),
  "receipt: HTTP status -1": receipt({ rlu_http_status: -1 }),
  "receipt: complete without a request": first(cut("rlu_request", "rlu_forwarded")),
  "receipt: complete without a response": first(cut("rlu_response")),
  "receipt: complete, no commitments or contents": first((claims, given) => {
    cut("rlu_request", "rlu_forwarded", "rlu_response")(claims);
    cut("request", "response")(given);
  }),
  "receipt: lost, with contents": first(async (claims) => lost(claims, {})),
  "receipt: request without response": first((claims, given) => {
    cut("rlu_response")(claims);
    cut("response")(given);
    put({ rlu_status: "failed", rlu_reason: "gone" })(claims);
  }),
  "receipt: commitment of another kind": first(async (claims, given, commitTo) => {
    claims.rlu_request = await commitTo("response", 1, REQUESTS[0]);
  }),
  "receipt: commitment of another number": first(async (claims, given, commitTo) => {
    claims.rlu_response = await commitTo("response", 2, RESPONSES[0]);
  }),
  "receipt: another length": first((claims) => void (claims.rlu_request.bytes += 1)),
  "receipt: forwarded differs, nothing rewritten": first(async (claims, given, commitTo) => {
    claims.rlu_forwarded = await commitTo("forwarded", 1, utf8("something else"));
  }),
  "receipt: usage empty": receipt({ rlu_usage: {} }),
  "receipt: usage of fewer": receipt({ rlu_usage: { input_tokens: 1 } }),
  "receipt: usage of others": receipt({ rlu_usage: { cached_input_tokens: 0, input_tokens: 3, output_tokens: 4, more: 1 } }),
  "receipt: usage negative": receipt({ rlu_usage: { cached_input_tokens: 0, input_tokens: -1, output_tokens: 4 } }),
  "receipt: before the session": receipt({ iat: now - 66 }),
  "receipt: of the future": receipt({ iat: now + 61 }),
  "receipt: logged before the session": { order: [0, "session", 1, 2, "close"] },
  "close: unknown claim": { close: put({ rlu_colour: "green" }) },
  "close: another session": { close: put({ rlu_session: b64u(random(16)) }) },
  "close: another leaf": { close: put({ rlu_session_leaf: ZERO }) },
  "close: another count": { close: put({ rlu_count: 2 }) },
  "close: a larger count": { close: put({ rlu_count: 4, rlu_last_seq: 4 }) },
  "close: last number too small": { close: put({ rlu_last_seq: 2 }) },
  "close: a number without a receipt": { order: ["session", 0, 2, "close"], close: put({ rlu_last_seq: 3 }) },
  "close: last number too large": { close: put({ rlu_last_seq: 4 }) },
  "close: another scratch": { close: put({ rlu_scratch: "kept" }) },
  "close: no reason": { close: cut("rlu_reason") },
  "close: empty reason": { close: put({ rlu_reason: "" }) },
  "close: another running": { close: put({ rlu_running: ZERO }) },
  "close: running in the order of numbers": { order: ["session", 2, 0, 1, "close"], run: [0, 1, 2] },
  "close: before the session": { close: put({ iat: now - 66 }) },
  "close: of the future": { close: put({ iat: now + 61 }) },
  "close: logged before a receipt": { order: ["session", 0, 1, "close", 2] },
  "close: logged before the session": { order: ["close", "session", 0, 1, 2] },
  "head: another kid": { header: (header) => void header.set(4, new Uint8Array(32)) },
  "head: another iss": { header: (header) => void header.get(15).set(1, "urn:rlu:instance:other") },
  "head: of the future": { header: (header) => void header.get(15).set(6, now + 61) },
  "head: another size": { header: (header) => void header.set(-65537, header.get(-65537) + 1) },
  "head: smaller than a receipt's": { headSize: 4 },
  "head: two trees of one size": {
    async bundle(bundle, { log, place, part, sessionBytes }) {
      // The session under another tree of as many leaves, signed as well.
      log.leaves = log.leaves.map((leaf, at) => (at === place.session ? leaf : new Uint8Array(32)));
      bundle.session = await part(sessionBytes, place.session);
    },
  },
  "two statements at one place": {
    async bundle(bundle, { log, place, part, sessionBytes }) {
      // The session in an earlier tree, at the place that a receipt has in the later one.
      const leaf = log.leaves[place.session];
      log.leaves = [log.leaves[0], new Uint8Array(32), leaf];
      bundle.session = await part(sessionBytes, 2);
    },
  },
};

const names = { accepted: [], refused: [], stricter: [] };
let number = 0;
for (const [verdict, cases] of [["accepted", ACCEPTED], ["refused", REFUSED], ["stricter", STRICTER]])
  for (const [name, how] of Object.entries(cases)) {
    const file = `${number++}.rlu`;
    writeFileSync(join(directory, file), await make(now, how));
    names[verdict].push({ name, file });
  }
console.log(JSON.stringify(names));
