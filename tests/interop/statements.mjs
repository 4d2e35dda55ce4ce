// Statements of sections 3 and 6, and what is computed from them.
import { Malformed, ascii, b64u, binary, bool, concat, count, digest, ecdsa, equal, hash32, hmac, list, must, object, oneOf, sha256, shape, text, u64, unb64u } from "./bytes.mjs";
import { canonical, parseCanonical } from "./json.mjs";
import { leafHash } from "./tree.mjs";

const PROFILE = "tag:rlu.internal,2026:";
const KINDS = ["tpm2", "gcp-vtpm", "azure-vtpm", "nitrotpm", "nitro", "sev-snp", "tdx", "none"];
const DEBUG = ["enabled", "disabled", "disabled-since-boot", "disabled-permanently", "disabled-fully-and-permanently"];
const profile = (name) => oneOf(`${PROFILE}${name}#1`);
const nonce = binary(8, 64);
const blind = binary(16, 16);
const sessionId = binary(16, 16);
const commitment = (value, what) => shape(value, { bytes: count, commitment: hash32 }, {}, what);

export async function thumbprint(jwk) {
  return sha256(canonical({ crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y }));
}

// The names that follow from a public key.
export async function identity(jwk) {
  const print = await thumbprint(jwk);
  const ueid = b64u(concat(Uint8Array.of(1), print));
  return { jwk, thumbprint: print, kid: b64u(print), ueid, iss: `urn:rlu:instance:${ueid}` };
}

function publicKey(value, what) {
  const jwk = shape(value, { crv: oneOf("P-256"), kty: oneOf("EC"), x: hash32, y: hash32 }, {}, what);
  return { ...jwk, x: value.x, y: value.y };
}

function channel(value, what) {
  const found = shape(
    value,
    { origin: oneOf("gateway-memory", "provisioned", "plaintext") },
    { spki_sha256: hash32 },
    what,
  );
  if ((found.origin === "plaintext") !== (found.spki_sha256 === undefined)) throw new Malformed(`${what}: spki_sha256`);
  return found;
}

function posture(value, what) {
  for (const [name, found] of Object.entries(object(value, what)))
    if (found === null || typeof found === "object") throw new Malformed(`${what}.${name}`);
  return value;
}

const gpus = (value, what) =>
  shape(
    value,
    { attestation: oneOf("nvidia", "none"), count, driver: text, memory_mib: count, name: text, vbios: text },
    { mode: oneOf("off", "on", "devtools", "ppcie") },
    what,
  );

function submods(value, what) {
  const out = {};
  for (const [kind, given] of Object.entries(object(value, what))) {
    const form = Array.isArray(given) && given.length === 2 && given[0] === "DIGEST" && Array.isArray(given[1]);
    if (!form || given[1].length !== 2 || given[1][0] !== "sha-256") throw new Malformed(`${what}.${kind}`);
    out[kind] = hash32(given[1][1], `${what}.${kind}`);
  }
  return out;
}

const engine = (value, what) => shape(value, { arguments_sha256: hash32, name: text, version: text }, {}, what);

const modelSignature = (value, what) =>
  value?.result === "verified"
    ? shape(value, { result: oneOf("verified"), signer: hash32 }, {}, what)
    : shape(value, { result: oneOf("failed", "unsigned") }, {}, what);

function furtherModels(value, what) {
  const form = (one, name) => shape(one, { engine, manifest_sha256: hash32, name: text }, { signature: modelSignature }, name);
  if (!Array.isArray(value) || value.length < 1 || value.length > 63) throw new Malformed(what);
  const models = value.map((one, index) => form(one, `${what}.${index}`));
  if (new Set(models.map((one) => one.name)).size !== models.length) throw new Malformed(what);
  return models;
}

function instanceClaims(payload) {
  const claims = instanceShape(payload);
  if (claims.rlu_further_models?.some((one) => one.name === claims.rlu_model.name)) throw new Malformed("instance.rlu_further_models");
  return claims;
}

const canaryReport = (value, what) =>
  shape(value, { digest: hash32, iat: count, result: oneOf("clean", "incomplete", "leak") }, {}, what);

const licence = (value, what) => shape(value, { digest: hash32, exp: count }, {}, what);

const instanceShape = (payload) =>
  shape(
    payload,
    {
      eat_profile: profile("instance"),
      iss: text,
      iat: count,
      exp: count,
      ueid: text,
      oemboot: bool,
      dbgstat: oneOf(...DEBUG),
      cnf: (value, what) => shape(value, { jwk: publicKey }, {}, what),
      rlu_key: (value, what) => shape(value, { created: count, hardware: oneOf(...KINDS) }, {}, what),
      rlu_tls: channel,
      rlu_model: (value, what) => shape(value, { manifest_sha256: hash32, name: text }, { signature: modelSignature }, what),
      rlu_engine: engine,
      rlu_gateway: (value, what) => shape(value, { name: text, version: text }, { image_sha256: hash32 }, what),
      rlu_hardware: (value, what) => shape(value, { profile: text }, {}, what),
      rlu_lock: (value, what) => shape(value, {}, { attestor: posture, engine: posture, gateway: posture }, what),
      rlu_region: text,
      rlu_boundary: text,
      rlu_site: text,
      rlu_log: (value, what) =>
        shape(value, { start_count: count }, { predecessor: (one, name) => shape(one, { head: binary(), iss: text }, {}, name) }, what),
    },
    { eat_nonce: nonce, rlu_canary_report: canaryReport, rlu_further_models: furtherModels, rlu_gpus: gpus, rlu_licence: licence, submods },
    "instance",
  );

const without = (payload, names) => {
  const out = Object.create(null);
  for (const [name, value] of Object.entries(payload)) if (!names.includes(name)) out[name] = value;
  return out;
};

export const claimsBytes = (payload) => canonical(without(payload, ["submods"]));
export const bindingOf = (payload) => sha256(ascii("rlu/instance/v1"), claimsBytes(payload));
export const profileDigest = (payload) =>
  sha256(
    ascii("rlu/instance-profile/v1"),
    canonical(without(payload, ["submods", "eat_nonce", "iat", "exp", "rlu_log", "rlu_canary_report", "rlu_licence"])),
  );

// A compact JWS by the key that its payload names: its parts, all of them well formed. Nothing is verified yet.
async function parseJws(jws, typ, read) {
  const parts = text(jws, "statement").split(".");
  if (parts.length !== 3) throw new Malformed("not a compact JWS");
  const [header, payloadBytes, signature] = parts.map(unb64u);
  const payload = parseCanonical(payloadBytes);
  const claims = read(payload);
  const wanted = shape(parseCanonical(header), { alg: oneOf("ES256"), kid: hash32, typ: oneOf(typ) }, {}, "header");
  if (signature.length !== 64) throw new Malformed("the signature has another length");
  return {
    payload,
    claims,
    kid: wanted.kid,
    signature,
    signed: ascii(`${parts[0]}.${parts[1]}`),
    identity: await identity(claims.cnf.jwk),
  };
}

export async function verifyJws({ kid, signature, signed, identity: names }) {
  must(equal(kid, names.thumbprint), "kid is not the key's thumbprint");
  must(await ecdsa(names.jwk, "SHA-256", signature, signed), "the signature");
}

export async function parseInstance(jws) {
  const found = await parseJws(jws, "eat+jwt", instanceClaims);
  return { ...found, binding: await bindingOf(found.payload), profile: await profileDigest(found.payload) };
}

const continuityClaims = (payload) =>
  shape(
    payload,
    {
      cnf: (value, what) => shape(value, { jwk: publicKey }, {}, what),
      iss: text,
      iat: count,
      rlu_head: binary(),
      rlu_successor: (value, what) => shape(value, { iss: text, jkt: hash32 }, {}, what),
    },
    {},
    "continuity",
  );

export const parseContinuity = (jws) => parseJws(jws, "rlu-continuity+jwt", continuityClaims);

export async function verifyInstance(statement) {
  await verifyJws(statement);
  const { claims, identity: names } = statement;
  must(claims.ueid === names.ueid && claims.iss === names.iss, "ueid or iss is not the key's");
}

export const parseSession = (bytes) => {
  const found = shape(
    parseCanonical(bytes),
    {
      eat_profile: profile("session"),
      iss: text,
      jti: sessionId,
      iat: count,
      exp: count,
      rlu_blind: blind,
      rlu_instance: hash32,
      rlu_tenant: text,
      rlu_principal: text,
      rlu_channel: channel,
      rlu_commitment_key: hash32,
    },
    {
      eat_nonce: nonce,
      rlu_freshness: oneOf("none"),
      cnf: (value, what) => shape(value, { jkt: hash32 }, {}, what),
      rlu_opening: commitment,
      rlu_policies: list(text),
    },
    "session",
  );
  if ((found.eat_nonce === undefined) === (found.rlu_freshness === undefined)) throw new Malformed("session: nonce or none");
  if ((found.rlu_freshness === undefined) !== (found.rlu_opening === undefined)) throw new Malformed("session: the opening");
  return found;
};

export const parseReceipt = (bytes) => {
  const found = shape(
    parseCanonical(bytes),
    {
      eat_profile: profile("receipt"),
      iss: text,
      iat: count,
      rlu_blind: blind,
      rlu_session: sessionId,
      rlu_session_leaf: hash32,
      rlu_seq: count,
      rlu_route: text,
      rlu_model: text,
      rlu_status: oneOf("complete", "partial", "aborted", "failed"),
      rlu_http_status: count,
    },
    {
      rlu_request: commitment,
      rlu_forwarded: commitment,
      rlu_response: commitment,
      rlu_rewritten: list(text),
      rlu_usage: (value, what) =>
        shape(value, { cached_input_tokens: count, input_tokens: count, output_tokens: count }, {}, what),
      rlu_reason: text,
    },
    "receipt",
  );
  if (found.rlu_seq === 0) throw new Malformed("receipt: rlu_seq is 0");
  const silent = found.rlu_request === undefined;
  if (silent !== (found.rlu_response === undefined)) throw new Malformed("receipt: request and response, or neither");
  if (silent && (found.rlu_status !== "failed" || found.rlu_forwarded !== undefined))
    throw new Malformed("receipt: no request, though something was relayed");
  return found;
};

export const parseClose = (bytes) =>
  shape(
    parseCanonical(bytes),
    {
      eat_profile: profile("close"),
      iss: text,
      iat: count,
      rlu_blind: blind,
      rlu_session: sessionId,
      rlu_session_leaf: hash32,
      rlu_last_seq: count,
      rlu_count: count,
      rlu_running: hash32,
      rlu_reason: text,
      rlu_scratch: oneOf("wiped", "unknown"),
    },
    {},
    "close",
  );

export const nextRunning = (before, leaf) => sha256(ascii("rlu/running/v1\0"), before, leaf);

// The running commitment after receipts with these leaf hashes, in the order logged.
export async function running(session, leaves) {
  let value = session;
  for (const leaf of leaves) value = await nextRunning(value, leaf);
  return value;
}

export const commitmentKeyDigest = (key) => sha256(ascii("rlu/commitment-key/v1\0"), key);

export const TAGS = { request: 1, response: 2, forwarded: 3, opening: 4 };

export async function commit(key, tag, session, seq, content) {
  const digested = await digest("SHA-256", content);
  const message = concat(
    ascii("rlu/commitment/v1\0"),
    Uint8Array.of(TAGS[tag]),
    session,
    u64(seq),
    u64(content.length),
    digested,
  );
  return hmac(key, message);
}

export const opening = (key, content) => commit(key, "opening", new Uint8Array(16), 0, content);

export { leafHash };
