// JSON without two readings: no key twice, and the canonical form of section 1.
import { Malformed, equal, utf8 } from "./bytes.mjs";

const NUMBER = /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\n\r]*/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
const MAX_NESTING = 64;

export function parse(bytes) {
  let source;
  try {
    source = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Malformed("not UTF-8");
  }
  let at = 0;
  const fail = (what) => {
    throw new Malformed(`not JSON at ${at}: ${what}`);
  };
  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(source);
    if (found === null) return null;
    at += found[0].length;
    return found[0];
  };
  const space = () => match(SPACE);
  const take = (letter) => {
    if (source[at] !== letter) return false;
    at += 1;
    return true;
  };

  function string() {
    if (!take('"')) fail("a string is expected");
    let out = "";
    for (;;) {
      out += match(PLAIN);
      if (take('"')) return out;
      if (!take("\\")) fail("a string does not end");
      const letter = source[at++];
      if (letter === "u") {
        const code = source.slice(at, at + 4);
        if (!/^[0-9a-fA-F]{4}$/.test(code)) fail("an escape");
        out += String.fromCharCode(parseInt(code, 16));
        at += 4;
      } else if (letter !== undefined && Object.hasOwn(ESCAPES, letter)) out += ESCAPES[letter];
      else fail("an escape");
    }
  }

  function members(depth) {
    const out = Object.create(null);
    space();
    if (take("}")) return out;
    for (;;) {
      space();
      const name = string();
      if (Object.hasOwn(out, name)) fail(`${name} twice`);
      space();
      if (!take(":")) fail("a colon is expected");
      out[name] = value(depth + 1);
      space();
      if (take("}")) return out;
      if (!take(",")) fail("a comma is expected");
    }
  }

  function elements(depth) {
    const out = [];
    space();
    if (take("]")) return out;
    for (;;) {
      out.push(value(depth + 1));
      space();
      if (take("]")) return out;
      if (!take(",")) fail("a comma is expected");
    }
  }

  function value(depth) {
    if (depth > MAX_NESTING) fail("too deep");
    space();
    if (source[at] === '"') return string();
    if (take("{")) return members(depth);
    if (take("[")) return elements(depth);
    for (const [word, meaning] of [["true", true], ["false", false], ["null", null]]) {
      if (source.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    }
    const number = match(NUMBER);
    if (number === null) fail("a value is expected");
    return Number(number);
  }

  const whole = value(0);
  space();
  if (at !== source.length) fail("something follows");
  return whole;
}

const MAX_LEVEL = 16;

function encode(value, level) {
  if (level > MAX_LEVEL) throw new Malformed("deeper than 16 levels");
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value)) throw new Malformed("not an integer of at most 2^53 - 1");
    return Object.is(value, -0) ? "0" : String(value);
  }
  if (typeof value === "string") {
    if (!value.isWellFormed()) throw new Malformed("a lone surrogate");
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map((one) => encode(one, level + 1)).join(",")}]`;
  const names = Object.keys(value).sort();
  for (const name of names) if (!/^[\x00-\x7f]*$/.test(name)) throw new Malformed("a key that is not ASCII");
  return `{${names.map((name) => `${JSON.stringify(name)}:${encode(value[name], level + 1)}`).join(",")}}`;
}

export function canonical(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Malformed("not an object");
  return utf8(encode(value, 0));
}

export const STATEMENT = 64 * 1024;
export const ITEM = 256 * 1024;

// A canonical object: decoded, encoded again and compared.
export function parseCanonical(bytes, most = STATEMENT) {
  if (bytes.length > most) throw new Malformed(`longer than ${most} bytes`);
  const value = parse(bytes);
  if (!equal(canonical(value), bytes)) throw new Malformed("not the canonical form");
  return value;
}
