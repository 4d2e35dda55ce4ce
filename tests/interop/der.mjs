// As much DER as it takes to read an X.509 certificate.
import { Malformed } from "./bytes.mjs";

const [BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID, SEQUENCE] = [0x01, 0x02, 0x03, 0x04, 0x06, 0x30];
const [UTC_TIME, GENERALIZED_TIME] = [0x17, 0x18];
const VERSION = 0xa0;
const EXTENSIONS = 0xa3;

// One element: its tag, its content, its whole encoding.
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  get done() {
    return this.at === this.bytes.length;
  }

  byte() {
    if (this.done) throw new Malformed("DER: cut short");
    return this.bytes[this.at++];
  }

  next(tag) {
    const start = this.at;
    const found = this.byte();
    if (tag !== undefined && found !== tag) throw new Malformed(`DER: tag ${found} where ${tag} is expected`);
    let length = this.byte();
    if (length >= 0x80) {
      const digits = length & 0x7f;
      if (digits === 0 || digits > 4) throw new Malformed("DER: a length");
      length = 0;
      for (let digit = 0; digit < digits; digit++) length = length * 256 + this.byte();
      if (length < 0x80 || length < 256 ** (digits - 1)) throw new Malformed("DER: a length that could be shorter");
    }
    if (this.at + length > this.bytes.length) throw new Malformed("DER: cut short");
    const content = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return { tag: found, content, whole: this.bytes.subarray(start, this.at) };
  }

  inner(tag) {
    return new Reader(this.next(tag).content);
  }

  peek(tag) {
    return !this.done && this.bytes[this.at] === tag;
  }

  end() {
    if (!this.done) throw new Malformed("DER: something follows");
  }
}

// Arcs may be of any size: those below 2.25 are UUIDs.
function dotted(content) {
  const arcs = [];
  let arc = 0n;
  content.forEach((byte, at) => {
    if (arc === 0n && byte === 0x80) throw new Malformed("DER: an OID that could be shorter");
    arc = (arc << 7n) | BigInt(byte & 0x7f);
    if (byte < 0x80) {
      arcs.push(arc);
      arc = 0n;
    } else if (at === content.length - 1) throw new Malformed("DER: an OID is cut short");
  });
  if (arcs.length === 0) throw new Malformed("DER: an empty OID");
  const [first, ...rest] = arcs;
  const top = first < 80n ? first / 40n : 2n;
  return [top, first - top * 40n, ...rest].join(".");
}

const oid = (reader) => dotted(reader.next(OID).content);

function boolean(content) {
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw new Malformed("DER: a boolean");
  return content[0] === 0xff;
}

function bits({ content }) {
  if (content.length === 0 || content[0] > 7) throw new Malformed("DER: a bit string");
  return content.subarray(1);
}

function time({ tag, content }) {
  const found = String.fromCharCode(...content);
  const form = { [UTC_TIME]: /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/, [GENERALIZED_TIME]: /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ };
  const parts = form[tag]?.exec(found)?.slice(1).map(Number);
  if (!parts) throw new Malformed("DER: a time");
  const [year, month, ...rest] = parts;
  const full = tag === UTC_TIME ? year + (year < 50 ? 2000 : 1900) : year;
  return Date.UTC(full, month - 1, ...rest) / 1000;
}

const ECC = "1.2.840.10045.2.1";
const RSA = "1.2.840.113549.1.1.1";
const CURVES = { "1.2.840.10045.3.1.7": "P-256", "1.3.132.0.34": "P-384" };

function unsigned({ content }) {
  const from = content.length > 1 && content[0] === 0 ? 1 : 0;
  return content.subarray(from);
}

// The key of a SubjectPublicKeyInfo: curve and coordinates, or modulus and exponent; null for other kinds.
function publicKey(whole) {
  const info = new Reader(whole).inner(SEQUENCE);
  const algorithm = info.inner(SEQUENCE);
  const kind = oid(algorithm);
  if (kind === ECC) {
    const curve = CURVES[oid(algorithm)];
    const point = bits(info.next(BIT_STRING));
    if (curve === undefined || point[0] !== 4) return null;
    const half = (point.length - 1) / 2;
    return { curve, x: point.subarray(1, 1 + half), y: point.subarray(1 + half) };
  }
  if (kind !== RSA) return null;
  const key = new Reader(bits(info.next(BIT_STRING))).inner(SEQUENCE);
  return { modulus: unsigned(key.next(INTEGER)), exponent: unsigned(key.next(INTEGER)) };
}

function extension(reader) {
  const name = oid(reader);
  const critical = reader.peek(BOOLEAN) ? boolean(reader.next(BOOLEAN).content) : false;
  const value = reader.next(OCTET_STRING).content;
  reader.end();
  return [name, { critical, value }];
}

export function certificate(der) {
  const outer = new Reader(der);
  const whole = outer.inner(SEQUENCE);
  outer.end();
  const body = whole.inner(SEQUENCE);
  whole.next(SEQUENCE);
  whole.next(BIT_STRING);
  whole.end();
  const version = body.peek(VERSION) ? body.inner(VERSION).next(INTEGER).content : Uint8Array.of(0);
  body.next(INTEGER); // serial number
  body.next(SEQUENCE); // algorithm
  body.next(SEQUENCE); // issuer
  const validity = body.inner(SEQUENCE);
  const [notBefore, notAfter] = [time(validity.next()), time(validity.next())];
  body.next(SEQUENCE); // subject
  const spki = body.next(SEQUENCE).whole;
  const extensions = new Map();
  if (body.peek(EXTENSIONS)) {
    const given = body.inner(EXTENSIONS).inner(SEQUENCE);
    while (!given.done) {
      const [name, found] = extension(given.inner(SEQUENCE));
      if (extensions.has(name)) throw new Malformed(`DER: extension ${name} twice`);
      extensions.set(name, found);
    }
  }
  body.end();
  return { version: version[0] + 1, notBefore, notAfter, spki, key: publicKey(spki), extensions };
}

export function isAuthority(value) {
  const reader = new Reader(value).inner(SEQUENCE);
  return reader.peek(BOOLEAN) && boolean(reader.next(BOOLEAN).content);
}

export function purposes(value) {
  const reader = new Reader(value).inner(SEQUENCE);
  const out = [];
  while (!reader.done) out.push(oid(reader));
  return out;
}

// Bit 0 of keyUsage, the first of its first byte, is digitalSignature.
export const forSignatures = (value) => ((bits(new Reader(value).next(BIT_STRING))[0] ?? 0) & 0x80) !== 0;

