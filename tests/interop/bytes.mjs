// Bytes, base64url, SHA-256 and the two ways in which a verification ends.

export class Refused extends Error {} // well formed, and not true
export class Malformed extends Error {} // not what it says it is

export function must(condition, message) {
  if (!condition) throw new Refused(message);
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const VALUES = new Map([...ALPHABET].map((letter, value) => [letter, value]));

export function unb64u(text) {
  if (typeof text !== "string" || text.length % 4 === 1) throw new Malformed("not base64url");
  const out = new Uint8Array(Math.floor((text.length * 3) / 4));
  let buffer = 0;
  let bits = 0;
  let at = 0;
  for (const letter of text) {
    const value = VALUES.get(letter);
    if (value === undefined) throw new Malformed("not base64url");
    buffer = ((buffer << 6) | value) & 0xfff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = (buffer >> bits) & 0xff;
    }
  }
  if ((buffer & ((1 << bits) - 1)) !== 0) throw new Malformed("not base64url: unused bits are not zero");
  return out;
}

export function b64u(bytes) {
  let out = "";
  for (let at = 0; at < bytes.length; at += 3) {
    const given = bytes.subarray(at, at + 3);
    const word = (given[0] << 16) | ((given[1] ?? 0) << 8) | (given[2] ?? 0);
    for (let digit = 0; digit <= given.length; digit++) out += ALPHABET[(word >> (18 - 6 * digit)) & 63];
  }
  return out;
}

export function unhex(text) {
  if (!/^([0-9a-f]{2})*$/.test(text)) throw new Malformed("not hexadecimal");
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export const ascii = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

export const utf8 = (text) => new TextEncoder().encode(text);

export function concat(...parts) {
  const out = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export const equal = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

export function u64(number) {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(number));
  return out;
}

export async function digest(algorithm, ...parts) {
  return new Uint8Array(await crypto.subtle.digest(algorithm, concat(...parts)));
}

export const sha256 = (...parts) => digest("SHA-256", ...parts);

export async function hmac(key, message) {
  const usable = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", usable, message));
}

// A signature r ‖ s of ECDSA under a public JWK.
export async function ecdsa(jwk, hash, signature, message) {
  const algorithm = { name: "ECDSA", namedCurve: jwk.crv };
  let key;
  try {
    key = await crypto.subtle.importKey("jwk", { ...jwk }, algorithm, false, ["verify"]);
  } catch {
    throw new Refused("no point of the curve");
  }
  return crypto.subtle.verify({ name: "ECDSA", hash }, key, signature, message);
}

// Claims of an object: exactly these members, each by a check that returns what it makes of the value.
export function shape(value, required, optional = {}, what = "object") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Malformed(`${what}: not an object`);
  const out = {};
  for (const [name, check] of Object.entries(required)) {
    if (!Object.hasOwn(value, name)) throw new Malformed(`${what}: ${name} is absent`);
    out[name] = check(value[name], `${what}.${name}`);
  }
  for (const name of Object.keys(value)) {
    if (Object.hasOwn(required, name)) continue;
    if (!Object.hasOwn(optional, name)) throw new Malformed(`${what}: ${name} is unknown`);
    out[name] = optional[name](value[name], `${what}.${name}`);
  }
  return out;
}

const typed = (test, expected) => (value, what) => {
  if (!test(value)) throw new Malformed(`${what}: not ${expected}`);
  return value;
};
export const text = typed((value) => typeof value === "string" && value !== "", "a string");
export const bool = typed((value) => typeof value === "boolean", "a boolean");
export const count = typed((value) => Number.isSafeInteger(value) && value >= 0, "a count");
export const object = typed((value) => value !== null && typeof value === "object" && !Array.isArray(value), "an object");
export const oneOf = (...words) => typed((value) => words.includes(value), `one of ${words.join(", ")}`);
export const list = (check, most = Infinity) => (value, what) => {
  if (!Array.isArray(value) || value.length > most) throw new Malformed(`${what}: not an array of at most ${most}`);
  return value.map((one, at) => check(one, `${what}[${at}]`));
};
export const binary = (least = 0, most = Infinity) => (value, what) => {
  let bytes;
  try {
    bytes = unb64u(value);
  } catch {
    throw new Malformed(`${what}: not base64url`);
  }
  if (bytes.length < least || bytes.length > most) throw new Malformed(`${what}: ${bytes.length} bytes`);
  return bytes;
};
export const hash32 = binary(32, 32);
