// Signed heads and COSE Receipts, section 5.
import { Tagged, decode, encode, rfc8949EncodeOptions } from "cborg";

import { Malformed, concat, ecdsa, equal, must } from "./bytes.mjs";

const [ALG, KID, CLAIMS, VDS, SIZE] = [1, 4, 15, 395, -65537];
const [ISS, IAT] = [1, 6];
const [PROOFS, INCLUSION, CONSISTENCY] = [396, -1, -2];
const SIGN1 = 18;

// One CBOR item, whole, and in the deterministic encoding: decoded, encoded again and compared.
function deterministic(bytes, what) {
  let value;
  try {
    value = decode(bytes, {
      strict: true,
      allowIndefinite: false,
      allowUndefined: false,
      rejectDuplicateMapKeys: true,
      useMaps: true,
      tags: Tagged.preserve(SIGN1),
    });
  } catch (error) {
    throw new Malformed(`${what}: not CBOR (${error.message})`);
  }
  if (!equal(encode(value, rfc8949EncodeOptions), bytes)) throw new Malformed(`${what}: not the deterministic encoding`);
  return value;
}

const bytesOf = (value, length, what) => {
  if (!(value instanceof Uint8Array) || (length !== null && value.length !== length)) throw new Malformed(what);
  return value;
};

const number = (value, what) => {
  if (!Number.isSafeInteger(value) || value < 0) throw new Malformed(what);
  return value;
};

function exactly(value, keys, what) {
  if (!(value instanceof Map) || value.size !== keys.length || !keys.every((key) => value.has(key)))
    throw new Malformed(`${what}: other members than ${keys.join(", ")}`);
  return value;
}

function envelope(bytes) {
  const outer = deterministic(bytes, "COSE");
  if (!(outer instanceof Tagged) || outer.tag !== SIGN1) throw new Malformed("COSE: not a tagged COSE_Sign1");
  if (!Array.isArray(outer.value) || outer.value.length !== 4) throw new Malformed("COSE: not four members");
  const [protectedBytes, unprotectedHeader, payload, signature] = outer.value;
  bytesOf(protectedBytes, null, "COSE: the protected header");
  const header = exactly(
    deterministic(protectedBytes, "protected header"),
    [ALG, KID, CLAIMS, VDS, SIZE],
    "protected header",
  );
  if (header.get(ALG) !== -7) throw new Malformed("COSE: not ES256");
  if (header.get(VDS) !== 1) throw new Malformed("COSE: not RFC9162_SHA256");
  const claims = exactly(header.get(CLAIMS), [ISS, IAT], "CWT claims");
  if (typeof claims.get(ISS) !== "string") throw new Malformed("COSE: iss");
  return {
    protectedBytes,
    unprotectedHeader,
    payload,
    signature: bytesOf(signature, 64, "COSE: the signature"),
    kid: bytesOf(header.get(KID), 32, "COSE: kid"),
    iss: claims.get(ISS),
    iat: number(claims.get(IAT), "COSE: iat"),
    treeSize: number(header.get(SIZE), "COSE: tree size"),
  };
}

export function parseHead(bytes) {
  const head = envelope(bytes);
  exactly(head.unprotectedHeader, [], "unprotected header");
  return { ...head, root: bytesOf(head.payload, 32, "COSE: the root") };
}

function parseProof(bytes, kind) {
  const { unprotectedHeader, payload, ...rest } = envelope(bytes);
  if (payload !== null) throw new Malformed("COSE Receipt: a payload");
  const proofs = exactly(exactly(unprotectedHeader, [PROOFS], "unprotected header").get(PROOFS), [kind], "proofs").get(kind);
  if (!Array.isArray(proofs) || proofs.length !== 1) throw new Malformed("COSE Receipt: not one proof");
  const proof = deterministic(bytesOf(proofs[0], null, "COSE Receipt: the proof"), "proof");
  if (!Array.isArray(proof) || proof.length !== 3 || !Array.isArray(proof[2])) throw new Malformed("COSE Receipt: the proof");
  const [first, second] = [number(proof[0], "proof: a size"), number(proof[1], "proof: an index or size")];
  return { ...rest, first, second, path: proof[2].map((hash) => bytesOf(hash, 32, "proof: a hash")) };
}

export function parseInclusion(bytes) {
  const { first, second, ...rest } = parseProof(bytes, INCLUSION);
  if (first !== rest.treeSize) throw new Malformed("COSE Receipt: the proof is for another size than the head");
  return { ...rest, index: second };
}

export function parseConsistency(bytes) {
  const { first, second, ...rest } = parseProof(bytes, CONSISTENCY);
  if (second !== rest.treeSize) throw new Malformed("COSE Receipt: the proof is for another size than the head");
  return { ...rest, oldSize: first };
}

const bstr = (bytes) => encode(bytes, rfc8949EncodeOptions);

export const sigStructure = (protectedBytes, payload) =>
  concat(Uint8Array.of(0x84), encode("Signature1"), bstr(protectedBytes), bstr(new Uint8Array(0)), bstr(payload));

// The signature of a head over a root, by the instance key.
export async function verifySignature(head, root, instance) {
  must(equal(head.kid, instance.thumbprint), "another key");
  must(head.iss === instance.iss, "another instance");
  const signed = sigStructure(head.protectedBytes, root);
  must(await ecdsa(instance.jwk, "SHA-256", head.signature, signed), "the signature of the head");
}

