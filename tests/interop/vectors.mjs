#!/usr/bin/env node
// Judge published vectors: node vectors.mjs FILE. Prints [{"name", "expected", "found", "detail"}]: what should come out and what did.
// A vector of values is expected to be "same"; one of encodings or proofs "accepted" or "refused".
import { readFileSync } from "node:fs";
import { basename } from "node:path";

import { Malformed, Refused, ascii, b64u, hex, sha256, unb64u, unhex, utf8 } from "./bytes.mjs";
import { parseBundle, verifyBundle } from "./bundle.mjs";
import * as cose from "./cose.mjs";
import { parseItem, verifyItem } from "./evidence.mjs";
import { canonical, parseCanonical } from "./json.mjs";
import * as statements from "./statements.mjs";
import { Steps } from "./steps.mjs";
import * as tpm from "./tpm.mjs";
import * as tree from "./tree.mjs";

const results = [];

async function judged(name, expected, check) {
  let [found, detail] = ["accepted", ""];
  try {
    detail = (await check()) ?? "";
    if (detail !== "") found = "refused";
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Malformed)) throw error;
    [found, detail] = ["refused", error.message];
  }
  results.push({ name, expected: expected ? "accepted" : "refused", found, detail });
}

function same(name, one, other) {
  const [given, computed] = [one, other].map((value) => (value instanceof Uint8Array ? hex(value) : value));
  results.push({ name, expected: "same", found: given === computed ? "same" : "different", detail: given === computed ? "" : `${given} ${computed}` });
}

const failed = (steps) => steps.list.filter((step) => !step.ok).map((step) => `${step.id}: ${step.detail}`).join("; ");

const judges = {
  async "base64url.json"(given) {
    for (const { bytes, text } of given.accepted) {
      same(`decode ${text}`, bytes, unb64u(text));
      same(`encode ${text}`, text, b64u(unhex(bytes)));
    }
    for (const { name, text } of given.refused) await judged(name, false, () => void unb64u(text));
  },

  async "canonical-json.json"(given) {
    for (const { name, bytes, value } of given.accepted) {
      await judged(name, true, () => void parseCanonical(unhex(bytes)));
      same(`${name}: encoded`, bytes, canonical(value));
    }
    for (const { name, bytes } of given.refused) await judged(name, false, () => void parseCanonical(unhex(bytes)));
  },

  async "identifiers.json"(given) {
    for (const { iss, jwk, kid, thumbprint, ueid } of given) {
      const found = await statements.identity(jwk);
      same(`${kid}: iss`, iss, found.iss);
      same(`${kid}: kid`, kid, found.kid);
      same(`${kid}: thumbprint`, thumbprint, found.thumbprint);
      same(`${kid}: ueid`, ueid, found.ueid);
    }
  },

  async "instances.json"(given) {
    for (const { name, jws, payload, claims_bytes: claims, binding, instance_profile_digest: profile } of given) {
      const found = await statements.parseInstance(jws);
      await judged(name, true, () => statements.verifyInstance(found));
      same(`${name}: payload`, payload, new TextDecoder().decode(canonical(found.payload)));
      same(`${name}: claims bytes`, claims, new TextDecoder().decode(statements.claimsBytes(found.payload)));
      same(`${name}: binding`, binding, found.binding);
      same(`${name}: profile`, profile, found.profile);
    }
  },

  async "engine-arguments.json"(given) {
    for (const { arguments: words, arguments_sha256: wanted } of given)
      same(words.join(" "), wanted, b64u(await sha256(canonical({ arguments: words }))));
  },

  async "manifests.json"(given) {
    for (const { files, manifest, manifest_sha256: wanted } of given) {
      const paths = Object.keys(files).sort((one, other) => (hex(utf8(one)) < hex(utf8(other)) ? -1 : 1));
      const entries = await Promise.all(
        paths.map(async (path) => {
          const content = unhex(files[path]);
          return { path, sha256: b64u(await sha256(content)), size: content.length };
        }),
      );
      const found = canonical({ files: entries, rlu_manifest: "1" });
      same(`${paths.length} files`, manifest, new TextDecoder().decode(found));
      same(`${paths.length} files: digest`, wanted, b64u(await sha256(found)));
    }
  },

  async "tree.json"(given) {
    for (const { leaf, leaf_hash: wanted } of given.hashes) same(leaf, wanted, await tree.leafHash(ascii(leaf)));
    for (const { left, right, node } of given.nodes) same("node", node, await tree.nodeHash(unhex(left), unhex(right)));
    for (const one of given.inclusion) {
      const path = one.path.map(unhex);
      await judged(`inclusion ${one.name} ${one.index}/${one.size}`, one.valid, async () =>
        void (await tree.verifyInclusion(unhex(one.leaf), one.index, one.size, path, unhex(one.root))),
      );
    }
    for (const one of given.consistency) {
      const path = one.path.map(unhex);
      const roots = [unhex(one.old_root), unhex(one.new_root)];
      await judged(`consistency ${one.name} ${one.old_size}/${one.new_size}`, one.valid, async () =>
        void (await tree.verifyConsistency(one.old_size, one.new_size, path, ...roots)),
      );
    }
  },

  async "heads.json"(given) {
    const instance = await statements.identity(given.jwk);
    same("kid", given.kid, instance.thumbprint);
    const root = unhex(given.root);
    const head = cose.parseHead(unhex(given.head));
    same("protected", given.protected, head.protectedBytes);
    same("root", given.root, head.root);
    same("signature", given.signature, head.signature);
    same("Sig_structure", given.sig_structure, cose.sigStructure(head.protectedBytes, root));
    same("tree_size", given.tree_size, head.treeSize);
    same("iat", given.iat, head.iat);
    same("iss", given.iss, head.iss);
    await judged("head", true, () => cose.verifySignature(head, root, instance));
    const inclusion = cose.parseInclusion(unhex(given.inclusion.receipt));
    same("inclusion: index", given.inclusion.leaf_index, inclusion.index);
    same("inclusion: path", given.inclusion.path.join(" "), inclusion.path.map(hex).join(" "));
    await judged("inclusion", true, async () => {
      const found = await tree.rootFrom(unhex(given.inclusion.leaf), inclusion.index, inclusion.treeSize, inclusion.path);
      await cose.verifySignature(inclusion, found, instance);
    });
    const consistency = cose.parseConsistency(unhex(given.consistency.receipt));
    same("consistency: old size", given.consistency.old_size, consistency.oldSize);
    same("consistency: path", given.consistency.path.join(" "), consistency.path.map(hex).join(" "));
    await judged("consistency", true, async () => {
      const { oldSize, treeSize, path } = consistency;
      await tree.verifyConsistency(oldSize, treeSize, path, unhex(given.consistency.old_root), root);
      await cose.verifySignature(consistency, root, instance);
    });
    for (const { name, bytes } of given.refused) await judged(name, false, () => void cose.parseHead(unhex(bytes)));
  },

  async "commitments.json"(given) {
    const key = unb64u(given.key);
    same("rlu_commitment_key", given.rlu_commitment_key, b64u(await statements.commitmentKeyDigest(key)));
    for (const { tag, session, seq, content, commitment } of given.commitments)
      same(
        `${tag} ${seq} ${content.length / 2}`,
        commitment,
        b64u(await statements.commit(key, tag, unb64u(session), seq, unhex(content))),
      );
  },

  async "sessions.json"(given) {
    const read = { sessions: statements.parseSession, receipts: statements.parseReceipt, closes: statements.parseClose };
    for (const [kind, parse] of Object.entries(read))
      for (const { name, statement, leaf_hash: wanted } of given[kind]) {
        await judged(name, true, () => void parse(utf8(statement)));
        same(`${name}: leaf`, wanted, await tree.leafHash(utf8(statement)));
      }
    let value = unhex(given.sessions[0].leaf_hash);
    for (const [at, wanted] of given.running.entries()) {
      if (at > 0) value = await statements.nextRunning(value, unhex(given.receipts[at - 1].leaf_hash));
      same(`running ${at}`, wanted, value);
    }
    const close = statements.parseClose(utf8(given.closes[0].statement));
    same("close", given.running[close.rlu_count], close.rlu_running);
  },

  async "bundle.json"(given) {
    const bundle = parseBundle(utf8(given.bundle));
    same("nonce", given.nonce, b64u(bundle.nonce));
    same("channel", given.channel, b64u(bundle.channel.spki_sha256));
    same("commitment key", given.commitment_key, b64u(bundle.commitment_key));
    for (const [at, { request, response }] of given.contents.entries()) {
      same(`request ${at}`, hex(utf8(request)), bundle.exchanges[at].request);
      same(`response ${at}`, hex(utf8(response)), bundle.exchanges[at].response);
    }
    await judged("bundle", true, async () => {
      const steps = new Steps();
      await verifyBundle(bundle, given.at, steps);
      return failed(steps);
    });
  },

  async "evidence-tpm2.json"(given) {
    const at = Date.parse(given.at) / 1000;
    const statement = { binding: unb64u(given.binding) };
    const judge = async (item) => {
      const steps = new Steps();
      await verifyItem(parseItem(canonical(item)), statement, at, steps);
      return failed(steps);
    };
    for (const { name, item, ak_name: akName, key_name: keyName, key_policy: policy } of given.genuine) {
      await judged(name, true, () => judge(item));
      const [ak, key] = [tpm.parsePublic(unb64u(item.ak_public)), tpm.parsePublic(unb64u(item.key_public))];
      same(`${name}: AK name`, akName, b64u(await tpm.nameOf(ak)));
      same(`${name}: key name`, keyName, b64u(await tpm.nameOf(key)));
      same(`${name}: key policy`, policy, b64u(key.authPolicy));
    }
    for (const { name, of, replace, remove } of given.refused) {
      const changed = { ...given.genuine.find((one) => one.name === of).item, ...replace };
      for (const member of remove) delete changed[member];
      await judged(name, false, () => judge(changed));
    }
  },
};

const file = process.argv[2];
const judge = judges[basename(file ?? "")];
if (judge === undefined) {
  console.error(`usage: vectors.mjs FILE, one of ${Object.keys(judges).join(", ")}`);
  process.exit(2);
}
await judge(JSON.parse(readFileSync(file, "utf8")));
console.log(JSON.stringify(results));
