// A bundle, section 10: parsed, then everything in it verified against the instance key.
import { Malformed, Refused, ascii, b64u, binary, equal, hash32, list, must, oneOf, sha256, shape, text } from "./bytes.mjs";
import { parseConsistency, parseHead, parseInclusion, verifySignature } from "./cose.mjs";
import { parseItem, verifyItem } from "./evidence.mjs";
import { parse } from "./json.mjs";
import * as statements from "./statements.mjs";
import { leafHash, newRootFrom, rootFrom } from "./tree.mjs";

const PARTS_OF_A_SESSION = ["commitment_key", "exchanges", "close"];
const MAX_BUNDLE = 64 * 1024 * 1024;
const item = (value, what) => shape(value, { data: binary(), kind: text }, {}, what);
const logged = (value, what) => shape(value, { receipt: binary(), statement: binary() }, {}, what);
const exchange = (value, what) =>
  shape(value, { receipt: binary(), statement: binary() }, { request: binary(), response: binary() }, what);
const collateral = (value, what) =>
  shape(value, { data: binary(), kind: oneOf("x509-crl", "ocsp-response", "tdx-collateral", "nvidia-rim") }, {}, what);
const policy = (value, what) =>
  shape(value, { files: list((one, name) => shape(one, { data: binary(), name: text }, {}, name)), toml: binary() }, {}, what);

export function parseBundle(bytes) {
  if (bytes.length > MAX_BUNDLE) throw new Malformed("larger than 64 MiB");
  const bundle = shape(
    parse(bytes),
    {
      rlu_bundle: oneOf("1"),
      attestation: (value, what) => shape(value, { evidence: list(item), statement: text }, {}, what),
    },
    {
      channel: (value, what) => shape(value, { spki_sha256: hash32 }, {}, what),
      nonce: binary(8, 64),
      session: logged,
      commitment_key: hash32,
      exchanges: list(exchange),
      close: logged,
      head: binary(),
      collateral: list(collateral, 256),
      roots: list(hash32),
      consistency: list(binary()),
      continuity: list(text, 16),
      // Section 11.2: who counts no witnesses may ignore them; nothing is concluded from them here.
      cosignatures: list((value, what) => shape(value, { cosignature: text, head: binary() }, {}, what), 64),
      policy,
    },
    "bundle",
  );
  if (bundle.session === undefined && PARTS_OF_A_SESSION.some((part) => bundle[part] !== undefined))
    throw new Malformed("no session, but what belongs to one");
  return bundle;
}

const SOFTWARE_KEY = ascii('{"kind":"none"}');
const SKEW = 60; // seconds by which clocks may differ

const same = (one, other) => one === undefined ? other === undefined : other !== undefined && equal(one, other);

async function verifyEvidence(bundle, instance, at, steps, softwareKey) {
  const { claims } = instance;
  await steps.take("evidence.submods", async () => {
    const kinds = bundle.attestation.evidence.map(({ kind }) => kind);
    must(new Set(kinds).size === kinds.length, "a kind twice");
    const wanted = claims.submods ?? {};
    must(Object.keys(wanted).length === kinds.length, "not the items that the statement names");
    for (const { kind, data } of bundle.attestation.evidence) {
      must(Object.hasOwn(wanted, kind), `${kind}: not in the statement`);
      must(equal(wanted[kind], await sha256(data)), `${kind}: another digest`);
    }
    must(kinds.includes(claims.rlu_key.hardware), "nothing speaks for the key");
  });
  for (const { kind, data } of bundle.attestation.evidence) {
    if (kind === "none") {
      await steps.take("evidence.none", () => {
        if (!equal(data, SOFTWARE_KEY)) throw new Malformed("not the item of a software key");
        must(softwareKey, "no hardware holds the key");
      });
      continue;
    }
    const parsed = await steps.take(`evidence.${kind}`, () => {
      if (kind !== "tpm2") throw new Refused("a kind that this verifier cannot judge");
      return parseItem(data);
    });
    if (parsed === null) continue;
    await verifyItem(parsed, { binding: instance.binding, jwk: claims.cnf.jwk, claims }, at, steps);
  }
}

// A statement that is a leaf: parsed, and included under a head that the instance key signed.
async function leaf(id, given, read, instance, at, steps) {
  const statement = await steps.take(`${id}.statement`, () => {
    const found = read(given.statement);
    must(found.iss === instance.identity.iss, "another instance");
    return found;
  });
  const hash = await leafHash(given.statement);
  const place = await steps.take(`${id}.receipt`, async () => {
    const proof = parseInclusion(given.receipt);
    must(proof.iat - SKEW <= at, "the head is of the future");
    const root = await rootFrom(hash, proof.index, proof.treeSize, proof.path);
    await verifySignature(proof, root, instance.identity);
    return { index: proof.index, size: proof.treeSize, root };
  });
  return statement === null || place === null ? null : { ...statement, hash, ...place };
}

async function verifySession(session, bundle, instance, at, steps) {
  await steps.take("session.instance", () => {
    must(equal(session.rlu_instance, instance.profile), "another instance profile");
    const [here, there] = [session.rlu_channel, instance.claims.rlu_tls];
    must(here.origin === there.origin && same(here.spki_sha256, there.spki_sha256), "another channel");
    must(session.iat < session.exp, "it ends before it begins");
    must(at <= session.exp + SKEW, "it has ended");
    must(session.iat <= at + SKEW, "of the future");
  });
  if (session.eat_nonce !== undefined)
    await steps.take("session.nonce", () => must(same(session.eat_nonce, bundle.nonce), "another nonce, or none is known"));
  await steps.take("session.commitment_key", async () => {
    must(bundle.commitment_key !== undefined, "no commitment key");
    const known = await statements.commitmentKeyDigest(bundle.commitment_key);
    must(equal(session.rlu_commitment_key, known), "another commitment key");
  });
}

async function verifyCommitment(claim, key, tag, session, seq, content, what) {
  must(claim.bytes === content.length, `${what}: another length`);
  must(equal(claim.commitment, await statements.commit(key, tag, session, seq, content)), `${what}: other bytes`);
}

// Was this said while the session can have been open, and not in the future?
function checkTime(statement, session, at) {
  must(statement.iat >= session.iat - SKEW, "before its session");
  must(statement.iat <= at + SKEW, "of the future");
}

async function verifyExchange(id, receipt, given, session, key, at, steps) {
  await steps.take(`${id}.session`, () => {
    must(equal(receipt.rlu_session, session.jti), "another session");
    must(equal(receipt.rlu_session_leaf, session.hash), "another session statement");
    must(receipt.index > session.index, "logged before its session");
    checkTime(receipt, session, at);
  });
  if (key === undefined) return;
  await steps.take(`${id}.content`, async () => {
    for (const [part, content] of [["request", given.request], ["response", given.response], ["forwarded", given.request]]) {
      const claim = receipt[`rlu_${part}`];
      if (part === "forwarded" && (claim === undefined || receipt.rlu_rewritten !== undefined)) continue;
      must((claim === undefined) === (content === undefined), `${part}: commitment and content, or neither`);
      if (claim !== undefined) await verifyCommitment(claim, key, part, session.jti, receipt.rlu_seq, content, part);
    }
  });
}

// The request that opened an implicit session is that of one of its exchanges; a later request may have been given a lower number.
async function verifyOpening(session, receipts, key, steps) {
  if (session.rlu_opening === undefined || key === undefined) return;
  await steps.take("session.opening", async () => {
    const { bytes, commitment } = session.rlu_opening;
    for (const { given } of receipts)
      if (given.request?.length === bytes && equal(commitment, await statements.opening(key, given.request))) return;
    throw new Refused("not the request of any exchange here");
  });
}

async function verifyClose(close, session, receipts, whole, at, steps) {
  await steps.take("close.session", () => {
    must(equal(close.rlu_session, session.jti), "another session");
    must(equal(close.rlu_session_leaf, session.hash), "another session statement");
    must(close.index > session.index, "logged before its session");
    for (const { receipt } of receipts) must(close.index > receipt.index, "logged before a receipt");
    for (const { receipt } of receipts) must(receipt.rlu_seq <= close.rlu_last_seq, "a receipt beyond the last");
    must(receipts.length <= close.rlu_count, "more receipts than were logged");
    checkTime(close, session, at);
  });
  if (!whole) return;
  await steps.take("close.running", async () => {
    must(receipts.length === close.rlu_count, "receipts are missing");
    must(close.rlu_last_seq === close.rlu_count, "a number without a receipt");
    const order = [...receipts].sort((one, other) => one.receipt.index - other.receipt.index);
    const leaves = order.map(({ receipt }) => receipt.hash);
    must(equal(close.rlu_running, await statements.running(session.hash, leaves)), "another running commitment");
  });
}

// All that was signed about one log: two leaves have two places, and one size has one root.
async function verifyLog(places, bundle, instance, at, steps) {
  const { head, consistency = [] } = bundle;
  await steps.take("log.places", () => {
    const seen = new Map();
    for (const { index } of places) {
      must(!seen.has(index), "two statements at one place");
      seen.set(index, true);
    }
  });
  const latest = head === undefined ? null : await steps.take("log.head", async () => {
    const found = parseHead(head);
    await verifySignature(found, found.root, instance.identity);
    must(found.iat - SKEW <= at, "of the future");
    for (const place of places) must(place.size <= found.treeSize, "older than a receipt");
    return found;
  });
  const roots = new Map();
  const known = (size, root) => {
    must(equal(roots.get(size) ?? root, root), `two trees of ${size} leaves`);
    roots.set(size, root);
  };
  const one = await steps.take("log.one_tree", () => {
    for (const { size, root } of places) known(size, root);
    if (latest) known(latest.treeSize, latest.root);
  });
  if (consistency.length === 0 || one === null) return;
  await steps.take("log.consistency", async () => {
    const proofs = consistency.map(parseConsistency).sort((first, second) => first.oldSize - second.oldSize);
    for (const proof of proofs) {
      must(roots.has(proof.oldSize), "from a head that nothing here is under");
      must(proof.iat - SKEW <= at, "of the future");
      const root = await newRootFrom(proof.oldSize, proof.treeSize, proof.path, roots.get(proof.oldSize));
      await verifySignature(proof, root, instance.identity);
      known(proof.treeSize, root);
    }
  });
}

// Section 14.1: keys that stepped down, oldest first, each naming the next.
async function verifyContinuity(given, instance, at, steps) {
  await steps.take("continuity", async () => {
    const chain = await Promise.all(given.map(statements.parseContinuity));
    for (const [number, one] of chain.entries()) {
      await statements.verifyJws(one);
      must(one.claims.iss === one.identity.iss, "iss is not the old key's");
      must(one.claims.iat <= at + SKEW, "of the future");
      const head = parseHead(one.claims.rlu_head);
      await verifySignature(head, head.root, one.identity);
      const next = number + 1 < chain.length ? chain[number + 1].identity : instance.identity;
      const { iss, jkt } = one.claims.rlu_successor;
      must(iss === next.iss && equal(jkt, next.thumbprint), "another key follows");
    }
    must(instance.claims.rlu_log.predecessor?.iss === chain.at(-1).claims.iss, "not the predecessor in the log");
  });
}

// A key in software proves nothing about a machine; `softwareKey` goes on all the same.
export async function verifyBundle(bundle, at, steps, softwareKey = false) {
  const instance = await steps.take("statement.encoding", () => statements.parseInstance(bundle.attestation.statement));
  if (instance === null) return;
  const { claims } = instance;
  await steps.take("statement.signature", () => statements.verifyInstance(instance));
  await steps.take("statement.time", () => {
    must(claims.iat < claims.exp, "it ends before it begins");
    must(claims.iat - SKEW <= at && at <= claims.exp + SKEW, "not valid at this time");
  });
  await steps.take("statement.nonce", () => {
    must(bundle.nonce !== undefined, "no nonce is known");
    must(same(claims.eat_nonce, bundle.nonce), "another nonce");
  });
  await steps.take("statement.channel", () => {
    must(claims.rlu_tls.origin !== "plaintext", "no channel is bound");
    must(same(claims.rlu_tls.spki_sha256, bundle.channel?.spki_sha256), "another channel, or none is known");
  });
  await verifyEvidence(bundle, instance, at, steps, softwareKey);
  if (bundle.continuity?.length) await verifyContinuity(bundle.continuity, instance, at, steps);

  const exchanges = bundle.exchanges ?? [];
  const places = [];
  if (bundle.session !== undefined) {
    const session = await leaf("session", bundle.session, statements.parseSession, instance, at, steps);
    if (session === null) return;
    places.push(session);
    await verifySession(session, bundle, instance, at, steps);
    const receipts = [];
    for (const [number, given] of exchanges.entries()) {
      const id = `exchange.${number}`;
      const receipt = await leaf(id, given, statements.parseReceipt, instance, at, steps);
      if (receipt === null) continue;
      receipts.push({ receipt, given });
      places.push(receipt);
      await verifyExchange(id, receipt, given, session, bundle.commitment_key, at, steps);
    }
    await steps.take("exchanges.sequence", () =>
      must(new Set(receipts.map(({ receipt }) => receipt.rlu_seq)).size === receipts.length, "a number twice"),
    );
    await verifyOpening(session, receipts, bundle.commitment_key, steps);
    if (bundle.close !== undefined) {
      const close = await leaf("close", bundle.close, statements.parseClose, instance, at, steps);
      if (close !== null) {
        places.push(close);
        await verifyClose(close, session, receipts, receipts.length === exchanges.length, at, steps);
      }
    }
  }
  if (places.length || bundle.head !== undefined) await verifyLog(places, bundle, instance, at, steps);
}
