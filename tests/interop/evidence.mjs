// Evidence item tpm2, sections 4 and 8. Of the certificates, only what they say is read: no chain is built.
import { Malformed, binary, count, digest, equal, hash32, list, must, object, oneOf, sha256, shape, text } from "./bytes.mjs";
import { certificate, forSignatures, isAuthority, purposes } from "./der.mjs";
import { ITEM, parseCanonical } from "./json.mjs";
import { replay } from "./eventlog.mjs";
import { verifyIma } from "./ima.mjs";
import * as tpm from "./tpm.mjs";
import { rootFrom } from "./tree.mjs";

const FIXED_TPM = 1 << 1;
const FIXED_PARENT = 1 << 4;
const SENSITIVE_DATA_ORIGIN = 1 << 5;
const NO_DA = 1 << 10;
const RESTRICTED = 1 << 16;
const DECRYPT = 1 << 17;
const SIGN = 1 << 18;
const INSTANCE_KEY = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | NO_DA | SIGN;
const ATTESTATION_KEY = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN;

const POLICY_PCR = Uint8Array.of(0, 0, 0x01, 0x7f);
const POLICY_AUTH_VALUE = Uint8Array.of(0, 0, 0x01, 0x6b);
const IMA_PCR = 10;

const BASIC_CONSTRAINTS = "2.5.29.19";
const KEY_USAGE = "2.5.29.15";
const EXTENDED_KEY_USAGE = "2.5.29.37";
const AIK_CERTIFICATE = "2.23.133.8.3";
const ENDORSEMENT = "2.25.227486024550674777818042816869759752263";

const signed = (value, what) => shape(value, { attest: binary(), signature: binary() }, {}, what);
const binding = (value, what) => shape(value, { leaf_index: count, path: list(hash32, 64), tree_size: count }, {}, what);

function values(value, what) {
  const out = {};
  for (const [bank, pcrs] of Object.entries(object(value, what))) {
    if (!Object.values(tpm.BANKS).includes(bank)) throw new Malformed(`${what}: bank ${bank}`);
    out[bank] = new Map();
    for (const [index, found] of Object.entries(object(pcrs, what))) {
      if (!/^(0|[1-9][0-9]?)$/.test(index)) throw new Malformed(`${what}: ${index}`);
      out[bank].set(Number(index), binary(tpm.SIZES[bank], tpm.SIZES[bank])(found, what));
    }
    if (out[bank].size === 0) throw new Malformed(`${what}: bank ${bank} is empty`);
  }
  return out;
}

export const parseItem = (bytes) =>
  shape(
    parseCanonical(bytes, ITEM),
    {
      kind: oneOf("tpm2"),
      ek_certificate: binary(),
      ek_chain: list(binary()),
      ak_public: binary(),
      ak_certificate: binary(),
      ak_chain: list(binary()),
      key_public: binary(),
      certify: signed,
      quote: signed,
      pcrs: values,
      binding,
    },
    { event_log: binary(), ima_log: binary() },
    "tpm2",
  );

function checkAttestationKey(ak) {
  must((ak.attributes & ATTESTATION_KEY) === ATTESTATION_KEY, "attributes are missing");
  must((ak.attributes & DECRYPT) === 0, "the key decrypts");
  must(ak.cipher === tpm.ALG.NULL, "a symmetric cipher");
  must([tpm.ALG.SHA256, tpm.ALG.SHA384, tpm.ALG.SHA512].includes(ak.nameAlg), "the name algorithm");
  const schemes = tpm.isEcc(ak) ? [tpm.SCHEME.ECDSA] : [tpm.SCHEME.RSASSA, tpm.SCHEME.RSAPSS];
  must(schemes.includes(ak.scheme.algorithm), "no scheme for signatures");
  must(tpm.isEcc(ak) ? ak.curve !== undefined : ak.bits >= 2048, "too weak");
}

function checkInstanceKey(key, jwk) {
  must(tpm.isEcc(key) && key.curve?.name === "P-256" && key.nameAlg === tpm.ALG.SHA256, "not ECC P-256 with SHA-256");
  must(key.attributes === INSTANCE_KEY, "other attributes");
  const free = key.scheme.algorithm === tpm.ALG.NULL;
  must(free || (key.scheme.algorithm === tpm.SCHEME.ECDSA && key.scheme.hash === tpm.ALG.SHA256), "another scheme");
  must(key.cipher === tpm.ALG.NULL && key.derivation.algorithm === tpm.ALG.NULL, "a cipher or a key derivation");
  if (jwk === null) return;
  const found = tpm.jwkOf(key);
  must(found.x === jwk.x && found.y === jwk.y, "not the key that signs the statement");
}

// The values quoted, in the order in which a TPM digests them.
function quoted(selection, pcrs) {
  const seen = new Set();
  const parts = selection.banks.flatMap(({ hash, pcrs: indexes }) => {
    const bank = tpm.BANKS[hash];
    must(bank !== undefined, "an unknown bank");
    if (indexes.length === 0) return [];
    seen.add(bank);
    must(pcrs[bank]?.size === indexes.length, `bank ${bank}: other PCRs than those quoted`);
    return indexes.map((index) => {
      must(pcrs[bank].has(index), `bank ${bank}: PCR ${index} is absent`);
      return pcrs[bank].get(index);
    });
  });
  must(Object.keys(pcrs).length === seen.size, "a bank that was not quoted");
  must(parts.length > 0, "no PCR is quoted");
  return parts;
}

// `authPolicy` names the selection without PCR 10 where an IMA log accounts for it.
async function keyPolicy(quote, item) {
  quoted(quote.selection, item.pcrs);
  const without = item.ima_log === undefined ? [] : [IMA_PCR];
  const selection = without.length ? tpm.encodeSelection(quote.selection.banks, without) : quote.selection.bytes;
  const parts = quote.selection.banks.flatMap(({ hash, pcrs }) =>
    pcrs.filter((index) => !without.includes(index)).map((index) => item.pcrs[tpm.BANKS[hash]].get(index)),
  );
  const first = await sha256(new Uint8Array(32), POLICY_PCR, selection, await sha256(...parts));
  return sha256(first, POLICY_AUTH_VALUE);
}

function sameKey(ak, found) {
  must(found !== null, "a kind of key that is not accepted");
  if (!tpm.isEcc(ak)) {
    must(found.modulus !== undefined && equal(found.modulus, ak.modulus), "not the AK");
    must(found.exponent.reduce((value, byte) => value * 256 + byte, 0) === ak.exponent, "not the AK");
    return;
  }
  must(found.curve === ak.curve.name, "not the AK");
  const size = ak.curve.size;
  must(equal(found.x, tpm.coordinate(ak.x, size)) && equal(found.y, tpm.coordinate(ak.y, size)), "not the AK");
}

function checkUsage(found) {
  must(found.version === 3, "not version 3");
  const constraints = found.extensions.get(BASIC_CONSTRAINTS);
  must(constraints !== undefined && !isAuthority(constraints.value), "not CA:FALSE");
  const purpose = found.extensions.get(EXTENDED_KEY_USAGE);
  must(purpose !== undefined && purposes(purpose.value).includes(AIK_CERTIFICATE), "not for an AK");
  const usage = found.extensions.get(KEY_USAGE);
  must(usage !== undefined && forSignatures(usage.value), "not for signatures");
}

const endorsement = (bytes) =>
  shape(
    parseCanonical(bytes),
    { ak_name: binary(), boundary: text, ek_spki_sha256: hash32, region: text, site: text },
    {},
    "endorsement",
  );

async function akCertificate(item, ak, at, steps, claims) {
  const ek = await steps.take("ek.certificate.form", () => valid(certificate(item.ek_certificate), at));
  const found = await steps.take("ak.certificate.form", () => valid(certificate(item.ak_certificate), at));
  if (ek === null || found === null) return;
  await steps.take("ak.certificate.key", () => sameKey(ak, found.key));
  await steps.take("ak.certificate.usage", () => checkUsage(found));
  await steps.take("ak.certificate.endorsement", async () => {
    const extension = found.extensions.get(ENDORSEMENT);
    must(extension !== undefined && !extension.critical, "no endorsement, or a critical one");
    const endorsed = endorsement(extension.value);
    must(equal(endorsed.ak_name, await tpm.nameOf(ak)), "for another AK");
    must(equal(endorsed.ek_spki_sha256, await sha256(ek.spki)), "for another EK");
    for (const name of ["region", "boundary", "site"]) {
      const claim = claims?.[`rlu_${name}`];
      must(claim === undefined || claim === endorsed[name], `${name}: not what the statement claims`);
    }
  });
}

function valid(found, at) {
  must(at === null || (found.notBefore <= at && at <= found.notAfter), "not valid at this time");
  return found;
}

// The whole item. `statement` has the binding, the instance key and the claims; vectors of items have the binding only.
export async function verifyItem(item, statement, at, steps) {
  const parsed = await steps.take("evidence.structures", () => ({
    ak: tpm.parsePublic(item.ak_public),
    key: tpm.parsePublic(item.key_public),
    certify: tpm.parseAttest(item.certify.attest),
    quote: tpm.parseAttest(item.quote.attest),
  }));
  if (parsed === null) return;
  const { ak, key, certify, quote } = parsed;
  await steps.take("ak.attributes", () => checkAttestationKey(ak));
  await akCertificate(item, ak, at, steps, statement.claims ?? null);
  await steps.take("key.attributes", () => checkInstanceKey(key, statement.jwk ?? null));
  await steps.take("key.certify", async () => {
    must(certify.type === "certify", "not a certification");
    must(await tpm.verifySignature(ak, item.certify.signature, certify.bytes), "the signature");
    must(certify.extraData.length === 0, "qualifying data");
    must(equal(certify.name, await tpm.nameOf(key)), "of another key");
  });
  await steps.take("quote.signature", async () => {
    must(quote.type === "quote", "not a quote");
    must(await tpm.verifySignature(ak, item.quote.signature, quote.bytes), "the signature");
  });
  await steps.take("quote.binding", async () => {
    must(quote.type === "quote", "not a quote");
    const { leaf_index: index, tree_size: size, path } = item.binding;
    const leaf = await sha256(Uint8Array.of(0), statement.binding);
    must(equal(quote.extraData, await rootFrom(leaf, index, size, path)), "for another statement");
  });
  await steps.take("quote.pcrs", async () => {
    must(quote.type === "quote", "not a quote");
    const parts = quoted(quote.selection, item.pcrs);
    const { hash } = tpm.parseSignature(item.quote.signature);
    must(hash in tpm.HASHES && equal(quote.pcrDigest, await digest(tpm.HASHES[hash], ...parts)), "another digest");
  });
  await steps.take("key.policy", async () => {
    must(quote.type === "quote", "not a quote");
    must(equal(key.authPolicy, await keyPolicy(quote, item)), "another policy");
  });
  await steps.take("quote.clock", () => {
    must(equal(certify.signer, quote.signer), "another signer");
    must(equal(certify.firmware, quote.firmware), "another firmware");
    must(certify.resetCount === quote.resetCount, "after another reset");
  });
  if (item.event_log !== undefined) await steps.take("quote.eventlog", () => replay(item.event_log, item.pcrs));
  if (item.ima_log !== undefined) await steps.take("quote.ima", () => verifyIma(item.ima_log, item.pcrs));
}

