// Structures of a TPM 2.0 (TPM 2.0 Library, part 2), as far as evidence holds them.
import { Malformed, Refused, b64u, concat, digest, ecdsa } from "./bytes.mjs";

const ALG = { RSA: 0x0001, SHA1: 0x0004, SHA256: 0x000b, SHA384: 0x000c, SHA512: 0x000d, NULL: 0x0010 };
const SCHEME = { RSASSA: 0x0014, RSAES: 0x0015, RSAPSS: 0x0016, ECDSA: 0x0018, ECDAA: 0x001a };
const ECC = 0x0023;
const CURVES = { 0x0003: { name: "P-256", size: 32 }, 0x0004: { name: "P-384", size: 48 } };
const GENERATED = 0xff544347;
const TYPES = { 0x8017: "certify", 0x8018: "quote" };
export const HASHES = { [ALG.SHA1]: "SHA-1", [ALG.SHA256]: "SHA-256", [ALG.SHA384]: "SHA-384", [ALG.SHA512]: "SHA-512" };
export const SIZES = { sha1: 20, sha256: 32, sha384: 48, sha512: 64 };
export const BANKS = { [ALG.SHA1]: "sha1", [ALG.SHA256]: "sha256", [ALG.SHA384]: "sha384", [ALG.SHA512]: "sha512" };
export { ALG, SCHEME };

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(size) {
    if (this.at + size > this.bytes.length) throw new Malformed("TPM structure: cut short");
    return this.bytes.subarray(this.at, (this.at += size));
  }

  number(size) {
    return this.take(size).reduce((value, byte) => value * 256 + byte, 0);
  }

  u8 = () => this.number(1);
  u16 = () => this.number(2);
  u32 = () => this.number(4);
  sized = () => this.take(this.u16());

  end() {
    if (this.at !== this.bytes.length) throw new Malformed("TPM structure: something follows");
  }
}

function whole(bytes, read) {
  const reader = new Reader(bytes);
  const value = read(reader);
  reader.end();
  return value;
}

function symmetric(reader) {
  const algorithm = reader.u16();
  if (algorithm !== ALG.NULL) reader.take(4); // key bits, mode
  return algorithm;
}

function scheme(reader) {
  const algorithm = reader.u16();
  if (algorithm === ALG.NULL || algorithm === SCHEME.RSAES) return { algorithm };
  const hash = reader.u16();
  if (algorithm === SCHEME.ECDAA) reader.u16();
  return { algorithm, hash };
}

// TPMT_PUBLIC of an RSA or ECC key.
export const parsePublic = (bytes) =>
  whole(bytes, (reader) => {
    const type = reader.u16();
    const common = { bytes, type, nameAlg: reader.u16(), attributes: reader.u32(), authPolicy: reader.sized() };
    if (type === ECC) {
      const [cipher, signing, curve] = [symmetric(reader), scheme(reader), reader.u16()];
      const derivation = scheme(reader);
      return { ...common, cipher, scheme: signing, curve: CURVES[curve], derivation, x: reader.sized(), y: reader.sized() };
    }
    if (type !== ALG.RSA) throw new Malformed("TPMT_PUBLIC: neither RSA nor ECC");
    const [cipher, signing, bits] = [symmetric(reader), scheme(reader), reader.u16()];
    const exponent = reader.u32() || 65537;
    return { ...common, cipher, scheme: signing, bits, exponent, modulus: reader.sized() };
  });

export const isEcc = (key) => key.type === ECC;

// A number of the size of the curve; the TPM may leave leading zeros out.
export function coordinate(bytes, size) {
  if (bytes.length > size) throw new Malformed("TPM structure: a number too large for the curve");
  return concat(new Uint8Array(size - bytes.length), bytes);
}

export function jwkOf(key) {
  if (isEcc(key)) {
    if (key.curve === undefined) throw new Refused("a curve that is not accepted");
    const [x, y] = [key.x, key.y].map((number) => b64u(coordinate(number, key.curve.size)));
    return { crv: key.curve.name, kty: "EC", x, y };
  }
  const exponent = Uint8Array.of(key.exponent >> 24, key.exponent >> 16, key.exponent >> 8, key.exponent);
  return { kty: "RSA", n: b64u(key.modulus), e: b64u(exponent.subarray(exponent.findIndex((byte) => byte !== 0))) };
}

// The name of an object: its name algorithm, and the digest of its public area.
export async function nameOf(key) {
  const hash = HASHES[key.nameAlg];
  if (hash === undefined) throw new Refused("a name algorithm that is not accepted");
  return concat(Uint8Array.of(key.nameAlg >> 8, key.nameAlg), await digest(hash, key.bytes));
}

function selection(reader) {
  const start = reader.at;
  const number = reader.u32();
  if (number > 16) throw new Malformed("TPML_PCR_SELECTION: too many banks");
  const banks = Array.from({ length: number }, () => {
    const hash = reader.u16();
    const size = reader.u8();
    if (size !== 3 && size !== 4) throw new Malformed("TPMS_PCR_SELECTION: the size of its map");
    const map = reader.take(size);
    const pcrs = [...map].flatMap((byte, at) => [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => byte & (1 << bit)).map((bit) => 8 * at + bit));
    return { hash, pcrs };
  });
  if (new Set(banks.map(({ hash }) => hash)).size !== number) throw new Malformed("TPML_PCR_SELECTION: a bank twice");
  return { bytes: reader.bytes.subarray(start, reader.at), banks };
}

// The same selection with each map in three bytes, without some PCRs.
export function encodeSelection(banks, without) {
  const parts = banks.map(({ hash, pcrs }) => {
    const map = new Uint8Array(3);
    for (const pcr of pcrs) if (!without.includes(pcr)) map[pcr >> 3] |= 1 << (pcr & 7);
    return concat(Uint8Array.of(hash >> 8, hash, 3), map);
  });
  return concat(Uint8Array.of(0, 0, 0, banks.length), ...parts);
}

// TPMS_ATTEST of a certification or a quote.
export const parseAttest = (bytes) =>
  whole(bytes, (reader) => {
    if (reader.u32() !== GENERATED) throw new Malformed("TPMS_ATTEST: not made by a TPM");
    const type = TYPES[reader.u16()];
    if (type === undefined) throw new Malformed("TPMS_ATTEST: neither certification nor quote");
    const common = { bytes, type, signer: reader.sized(), extraData: reader.sized() };
    reader.take(8); // clock
    common.resetCount = reader.u32();
    reader.take(5); // restarts, safe
    common.firmware = reader.take(8);
    if (type === "certify") return { ...common, name: reader.sized(), qualifiedName: reader.sized() };
    return { ...common, selection: selection(reader), pcrDigest: reader.sized() };
  });

// TPMT_SIGNATURE.
export const parseSignature = (bytes) =>
  whole(bytes, (reader) => {
    const [algorithm, hash] = [reader.u16(), reader.u16()];
    if (algorithm === SCHEME.ECDSA) return { algorithm, hash, r: reader.sized(), s: reader.sized() };
    if (algorithm === SCHEME.RSASSA || algorithm === SCHEME.RSAPSS) return { algorithm, hash, signature: reader.sized() };
    throw new Malformed("TPMT_SIGNATURE: an algorithm that is not accepted");
  });

async function verifyRsa(key, found, message) {
  const pss = found.algorithm === SCHEME.RSAPSS;
  const [name, hash] = [pss ? "RSA-PSS" : "RSASSA-PKCS1-v1_5", HASHES[found.hash]];
  const usable = await crypto.subtle.importKey("jwk", jwkOf(key), { name, hash }, false, ["verify"]);
  if (!pss) return crypto.subtle.verify({ name }, usable, found.signature, message);
  // TPMs salt with as many bytes as the digest has, or with as many as fit; the interface wants to be told how many.
  const digestSize = { "SHA-256": 32, "SHA-384": 48, "SHA-512": 64 }[hash];
  const most = key.bits / 8 - digestSize - 2;
  for (const saltLength of new Set([digestSize, most, ...Array(most).keys()]))
    if (await crypto.subtle.verify({ name, saltLength }, usable, found.signature, message)) return true;
  return false;
}

// Did this key sign this, with the scheme that its public area names?
export async function verifySignature(key, signature, message) {
  const found = parseSignature(signature);
  if (found.algorithm !== key.scheme.algorithm || found.hash !== key.scheme.hash) throw new Refused("not the key's scheme");
  if (![ALG.SHA256, ALG.SHA384, ALG.SHA512].includes(found.hash)) throw new Refused("a hash that is not accepted");
  if (!isEcc(key)) return verifyRsa(key, found, message);
  const jwk = jwkOf(key);
  const raw = concat(coordinate(found.r, key.curve.size), coordinate(found.s, key.curve.size));
  return ecdsa(jwk, HASHES[found.hash], raw, message);
}
