// A maker of bundles from the formats alone: a software key of its own, a session, three exchanges, a close, a log.
import { Tagged, encode, rfc8949EncodeOptions } from "cborg";

import { ascii, b64u, sha256, utf8 } from "./bytes.mjs";
import { sigStructure } from "./cose.mjs";
import { canonical } from "./json.mjs";
import * as statements from "./statements.mjs";
import { leafHash, nodeHash } from "./tree.mjs";

export const random = (size) => crypto.getRandomValues(new Uint8Array(size));
const blind = () => b64u(random(16));
const cbor = (value) => encode(value, rfc8949EncodeOptions);
export const profile = (name) => `tag:rlu.internal,2026:${name}#1`;
export const ZERO = b64u(new Uint8Array(32));

export async function generate() {
  const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const { crv, kty, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  const names = await statements.identity({ crv, kty, x, y });
  const sign = async (message) =>
    new Uint8Array(await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, pair.privateKey, message));
  return { ...names, sign };
}

// The root of a list of leaf hashes and the path of one of them, RFC 9162 sections 2.1.1 and 2.1.3.1.
const split = (size) => 2 ** Math.ceil(Math.log2(size) - 1);

async function rootOf(leaves) {
  if (leaves.length === 1) return leaves[0];
  const at = split(leaves.length);
  return nodeHash(await rootOf(leaves.slice(0, at)), await rootOf(leaves.slice(at)));
}

async function pathOf(leaves, index) {
  if (leaves.length === 1) return [];
  const at = split(leaves.length);
  const [left, right] = [leaves.slice(0, at), leaves.slice(at)];
  if (index < at) return [...(await pathOf(left, index)), await rootOf(right)];
  return [...(await pathOf(right, index - at)), await rootOf(left)];
}

export class Log {
  constructor(now, key, how) {
    Object.assign(this, { now, key, how, leaves: [] });
  }

  async append(bytes) {
    this.leaves.push(await leafHash(bytes));
    return this.leaves.length - 1;
  }

  async #head(size, unprotectedHeader, payload, root) {
    const header = new Map([
      [1, -7],
      [4, this.key.thumbprint],
      [15, new Map([[1, this.key.iss], [6, this.now]])],
      [395, 1],
      [-65537, size],
    ]);
    this.how.header?.(header);
    const protectedBytes = cbor(header);
    const signature = await this.key.sign(sigStructure(protectedBytes, root));
    return cbor(new Tagged(18, [protectedBytes, unprotectedHeader, payload, signature]));
  }

  async head(size = this.leaves.length) {
    const root = await rootOf(this.leaves.slice(0, size));
    return this.#head(size, new Map(), root, root);
  }

  // The path of RFC 9162 section 2.1.4.1.
  static async #between(leaves, old, whole) {
    if (old === leaves.length) return whole ? [] : [await rootOf(leaves)];
    const at = split(leaves.length);
    const [left, right] = [leaves.slice(0, at), leaves.slice(at)];
    if (old <= at) return [...(await Log.#between(left, old, whole)), await rootOf(right)];
    return [...(await Log.#between(right, old - at, false)), await rootOf(left)];
  }

  async consistency(old, size = this.leaves.length) {
    const leaves = this.leaves.slice(0, size);
    const proof = cbor([old, size, await Log.#between(leaves, old, true)]);
    return this.#head(size, new Map([[396, new Map([[-2, [proof]]])]]), null, await rootOf(leaves));
  }

  async receipt(index, size = this.leaves.length) {
    const leaves = this.leaves.slice(0, size);
    const proof = cbor([size, index, await pathOf(leaves, index)]);
    return this.#head(size, new Map([[396, new Map([[-1, [proof]]])]]), null, await rootOf(leaves));
  }
}

const NONE = canonical({ kind: "none" });

// A key that steps down signs who follows, section 14.1.
export async function stepDown(now, old, successor, how = {}) {
  const log = new Log(now, old, {});
  await log.append(ascii("the last one"));
  const payload = {
    cnf: { jwk: { ...old.jwk } },
    iss: old.iss,
    iat: now - 100,
    rlu_head: b64u(await log.head()),
    rlu_successor: { iss: successor.iss, jkt: successor.kid },
  };
  how.payload?.(payload);
  const header = { alg: "ES256", kid: old.kid, typ: "rlu-continuity+jwt" };
  how.header?.(header);
  const signed = `${b64u(canonical(header))}.${b64u(canonical(payload))}`;
  return `${signed}.${b64u(await old.sign(ascii(signed)))}`;
}

async function instanceOf(now, key, how, nonce, spki) {
  const payload = {
    eat_profile: profile("instance"),
    iss: key.iss,
    iat: now - 10,
    exp: now + 3600,
    ueid: key.ueid,
    eat_nonce: b64u(nonce),
    oemboot: false,
    dbgstat: "enabled",
    cnf: { jwk: { ...key.jwk } },
    rlu_key: { created: now - 100, hardware: "none" },
    rlu_tls: { origin: "gateway-memory", spki_sha256: b64u(spki) },
    rlu_model: { manifest_sha256: ZERO, name: "demo" },
    rlu_engine: { arguments_sha256: ZERO, name: "vllm", version: "0.32.0" },
    rlu_gateway: { name: "rlu", version: "0.1.0" },
    rlu_hardware: { profile: "cpu-demo" },
    rlu_lock: { attestor: {}, engine: {}, gateway: {} },
    rlu_region: "eu-central-1",
    rlu_boundary: "on-premises",
    rlu_site: "rack-12",
    rlu_log: { start_count: 1 },
    submods: { none: ["DIGEST", ["sha-256", b64u(await sha256(NONE))]] },
  };
  how.instance?.(payload);
  const header = { alg: "ES256", kid: key.kid, typ: "eat+jwt" };
  how.jose?.(header);
  const signed = `${b64u(canonical(header))}.${b64u(canonical(payload))}`;
  return { payload, jws: `${signed}.${b64u(await key.sign(ascii(signed)))}` };
}

export const REQUESTS = ["hello", "hello again", ""].map((text) => utf8(text));
export const RESPONSES = ["good morning", "still here", "no"].map((text) => utf8(text));

// A bundle as of a time. `how` has hooks that change what is said before it is signed, and what is logged in which order.
export async function make(now, how) {
  const [key, commitmentKey, nonce, spki, id] = [how.key ?? (await generate()), random(32), random(32), random(32), random(16)];
  const instance = await instanceOf(now, key, how, nonce, spki);
  const log = new Log(now, key, how);
  await log.append(ascii("another's"));

  const session = {
    eat_profile: profile("session"),
    iss: key.iss,
    jti: b64u(id),
    iat: now - 5,
    exp: now + 3600,
    rlu_blind: blind(),
    rlu_instance: b64u(await statements.profileDigest(instance.payload)),
    rlu_tenant: "tenant",
    rlu_principal: "principal",
    rlu_channel: { ...instance.payload.rlu_tls },
    rlu_commitment_key: b64u(await statements.commitmentKeyDigest(commitmentKey)),
  };
  const opening = { bytes: REQUESTS[0].length, commitment: b64u(await statements.opening(commitmentKey, REQUESTS[0])) };
  if (how.implicit) Object.assign(session, { rlu_freshness: "none", rlu_opening: opening });
  else session.eat_nonce = b64u(nonce);
  how.session?.(session);
  const sessionBytes = canonical(session);
  const sessionLeaf = await leafHash(sessionBytes);

  const commitTo = async (tag, seq, content) => ({
    bytes: content.length,
    commitment: b64u(await statements.commit(commitmentKey, tag, id, seq, content)),
  });
  const exchanges = [];
  for (const [at, request] of REQUESTS.entries()) {
    const response = RESPONSES[at];
    const receipt = {
      eat_profile: profile("receipt"),
      iss: key.iss,
      iat: now - 3,
      rlu_blind: blind(),
      rlu_session: b64u(id),
      rlu_session_leaf: b64u(sessionLeaf),
      rlu_seq: at + 1,
      rlu_route: "/v1/chat/completions",
      rlu_model: "demo",
      rlu_status: "complete",
      rlu_http_status: 200,
      rlu_request: await commitTo("request", at + 1, request),
      rlu_forwarded: await commitTo("forwarded", at + 1, request),
      rlu_response: await commitTo("response", at + 1, response),
    };
    const given = { request: b64u(request), response: b64u(response) };
    await how.receipt?.(receipt, at, given, commitTo);
    exchanges.push({ bytes: canonical(receipt), given });
  }
  how.exchanges?.(exchanges);

  // The order in which things are logged.
  const order = how.order ?? ["session", ...exchanges.keys(), "close"];
  const logged = order.filter((what) => typeof what === "number");
  let running = sessionLeaf;
  for (const at of how.run ?? logged) running = await statements.nextRunning(running, await leafHash(exchanges[at].bytes));
  const close = {
    eat_profile: profile("close"),
    iss: key.iss,
    iat: now - 1,
    rlu_blind: blind(),
    rlu_session: b64u(id),
    rlu_session_leaf: b64u(sessionLeaf),
    rlu_last_seq: logged.length,
    rlu_count: logged.length,
    rlu_running: b64u(running),
    rlu_reason: "client",
    rlu_scratch: "wiped",
  };
  how.close?.(close);
  const closeBytes = canonical(close);
  const place = {};
  for (const what of order)
    place[what] = await log.append(what === "session" ? sessionBytes : what === "close" ? closeBytes : exchanges[what].bytes);

  const part = async (bytes, index, size) => ({ receipt: b64u(await log.receipt(index, size)), statement: b64u(bytes) });
  const bundle = {
    rlu_bundle: "1",
    attestation: { evidence: [{ data: b64u(NONE), kind: "none" }], statement: instance.jws },
    channel: { spki_sha256: b64u(spki) },
    nonce: b64u(nonce),
    session: await part(sessionBytes, place.session, how.sessionSize),
    commitment_key: b64u(commitmentKey),
    exchanges: await Promise.all(
      logged.map(async (at) => ({ ...(await part(exchanges[at].bytes, place[at])), ...exchanges[at].given })),
    ),
    close: await part(closeBytes, place.close),
    head: b64u(await log.head(how.headSize)),
  };
  await how.bundle?.(bundle, { log, key, place, part, sessionBytes });
  return utf8(JSON.stringify(bundle));
}

