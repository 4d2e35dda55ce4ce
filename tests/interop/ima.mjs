// The kernel's list of measurements in its binary form, as far as PCR 10 proves it. Its older template `ima` and its text form are not read.
import { Malformed, Refused, concat, digest, equal, must } from "./bytes.mjs";
import { SIZES } from "./tpm.mjs";

const PCR = 10;
const TEMPLATES = { "ima-ng": 2, "ima-sig": 3, "ima-ngv2": 2, "ima-sigv2": 3, "ima-buf": 3 };
const MAX_ENTRIES = 100_000;
const NAMES = { sha1: "SHA-1", sha256: "SHA-256", sha384: "SHA-384", sha512: "SHA-512" };
const FILE_SIZES = { ...SIZES, md5: 16, sha224: 28, sm3: 32, "sm3-256": 32 };
const zero = (bytes) => bytes.every((byte) => byte === 0);
const ascii = (bytes) => String.fromCharCode(...bytes);

function reader(bytes) {
  let at = 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const take = (size) => {
    if (at + size > bytes.length) throw new Malformed("IMA log: cut short");
    at += size;
    return bytes.subarray(at - size, at);
  };
  const u32 = () => (take(4), view.getUint32(at - 4, true));
  return { take, u32, sized: () => take(u32()), done: () => at === bytes.length };
}

// The algorithm, ":", a zero and the digest; version 2 says first what the digest is of.
function fileDigest(field, second) {
  const end = field.indexOf(0);
  const words = ascii(field.subarray(0, Math.max(end, 0))).split(":");
  const [algorithm, value] = [words.at(-2), field.subarray(end + 1)];
  if (words.length !== (second ? 3 : 2) || words.at(-1) !== "") throw new Malformed("IMA log: a file digest");
  if (second && !["ima", "verity"].includes(words[0])) throw new Malformed("IMA log: a file digest of another kind");
  if (FILE_SIZES[algorithm] !== value.length) throw new Malformed("IMA log: a file digest of another size");
  return { algorithm, value };
}

async function entry(log) {
  if (log.u32() !== PCR) throw new Malformed("IMA log: another PCR");
  const named = log.take(20);
  const template = ascii(log.sized());
  if (template === "ima") throw new Refused("a template that this verifier cannot judge");
  if (!Object.hasOwn(TEMPLATES, template)) throw new Malformed("IMA log: an unknown template");
  const data = log.sized();
  const inner = reader(data);
  const fields = Array.from({ length: TEMPLATES[template] }, () => inner.sized());
  if (!inner.done()) throw new Malformed("IMA log: further fields");
  const file = fileDigest(fields[0], template.endsWith("v2"));
  const violation = zero(named);
  if (violation) must(zero(file.value), "a violation of a file with a digest");
  else must(equal(named, await digest("SHA-1", data)), "the digest of an entry");
  const path = fields[1];
  if (path.indexOf(0) !== path.length - 1 || path.length < 2 || path.includes(0x20)) throw new Malformed("IMA log: a name");
  return { data, named, violation, file, name: ascii(path.subarray(0, -1)) };
}

// How a kernel may extend a bank: with the bank's own digest, or with SHA-1's and zeros behind it.
const WAYS = {
  async own(bank, { data }) {
    return digest(NAMES[bank], data);
  },
  async padded(bank, { named }) {
    return concat(named, new Uint8Array(SIZES[bank] - named.length));
  },
};

// After which numbers of entries does the bank have its quoted value?
async function prefixes(bank, entries, quoted, way) {
  const found = new Set();
  let value = new Uint8Array(SIZES[bank]);
  for (const [at, one] of entries.entries()) {
    const by = one.violation ? new Uint8Array(SIZES[bank]).fill(0xff) : await way(bank, one);
    value = await digest(NAMES[bank], value, by);
    if (equal(value, quoted)) found.add(at + 1);
  }
  return found;
}

async function bootAggregate({ name, file }, pcrs) {
  must(name === "boot_aggregate", "it does not begin with boot_aggregate");
  const quoted = pcrs[file.algorithm];
  const values = Array.from({ length: PCR }, (_, pcr) => quoted?.get(pcr));
  if (values.includes(undefined)) return;
  const accepted = [values, values.slice(0, 8)].map((some) => digest(NAMES[file.algorithm], ...some));
  must((await Promise.all(accepted)).some((one) => equal(one, file.value)), "of another boot");
}

export async function verifyIma(bytes, pcrs) {
  const banks = Object.entries(pcrs).filter(([, values]) => values.has(PCR));
  must(banks.length > 0, "PCR 10 is not quoted");
  const log = reader(bytes);
  const entries = [];
  while (!log.done()) {
    if (entries.length === MAX_ENTRIES) throw new Malformed("IMA log: too long");
    entries.push(await entry(log));
  }
  must(entries.length > 0, "no entries");
  let possible = null;
  for (const [bank, values] of banks) {
    const found = new Set();
    for (const way of Object.values(WAYS))
      for (const number of await prefixes(bank, entries, values.get(PCR), way)) found.add(number);
    possible = possible === null ? found : new Set([...possible].filter((number) => found.has(number)));
  }
  must(possible.size > 0, "PCR 10 is not what the list leads to");
  await bootAggregate(entries[0], pcrs);
}
