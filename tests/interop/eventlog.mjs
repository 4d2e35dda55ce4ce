// Firmware's log in the crypto-agile form of the TCG PC Client Platform Firmware Profile.
import { Malformed, digest, equal, must } from "./bytes.mjs";
import { BANKS, HASHES } from "./tpm.mjs";

const NO_ACTION = 3;
const SIGNATURE = "Spec ID Event03\0";
const LOCALITY = "StartupLocality\0";
const FIRMWARE_PCRS = 8;
const PCRS = 24;
const formed = (condition, message) => {
  if (!condition) throw new Malformed(`event log: ${message}`);
};

class Reader {
  constructor(bytes) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.bytes = bytes;
    this.at = 0;
  }

  take(size) {
    if (this.at + size > this.bytes.length) throw new Malformed("event log: cut short");
    return this.bytes.subarray(this.at, (this.at += size));
  }

  u8 = () => this.take(1)[0];
  u16 = () => (this.take(2), this.view.getUint16(this.at - 2, true));
  u32 = () => (this.take(4), this.view.getUint32(this.at - 4, true));
}

const starts = (bytes, text) => String.fromCharCode(...bytes.subarray(0, text.length)) === text;

function header(reader) {
  formed(reader.u32() === 0 && reader.u32() === NO_ACTION, "no header");
  formed(
    reader.take(20).every((byte) => byte === 0),
    "a digest of the header",
  );
  const inner = new Reader(reader.take(reader.u32()));
  formed(starts(inner.take(SIGNATURE.length), SIGNATURE), "not crypto-agile");
  inner.take(8); // platform class, versions, size of a word
  return new Map(Array.from({ length: inner.u32() }, () => [inner.u16(), inner.u16()]));
}

// In every quoted bank that the log has: the PCRs of the firmware, and every other that the log extends, have the value that it leads to.
export async function replay(bytes, pcrs) {
  const reader = new Reader(bytes);
  const sizes = header(reader);
  const found = {};
  for (const [algorithm, size] of sizes)
    if (BANKS[algorithm]) found[BANKS[algorithm]] = { hash: HASHES[algorithm], size, values: new Map() };
  let begun = false; // has PCR 0 its first value?
  while (reader.at < bytes.length) {
    const [pcr, type] = [reader.u32(), reader.u32()];
    formed(pcr < PCRS, `PCR ${pcr} does not exist`);
    formed(reader.u32() === sizes.size, "other digests than the header names");
    const digests = new Map();
    while (digests.size < sizes.size) {
      const algorithm = reader.u16();
      formed(sizes.has(algorithm) && !digests.has(algorithm), "other digests than the header names");
      digests.set(algorithm, reader.take(sizes.get(algorithm)));
    }
    const event = reader.take(reader.u32());
    const locality = type === NO_ACTION && pcr === 0 && starts(event, LOCALITY);
    if (locality) {
      formed(event.length === LOCALITY.length + 1 && !begun, "StartupLocality out of its place");
      begun = true;
    }
    if (type !== NO_ACTION && pcr === 0) begun = true;
    for (const [algorithm, value] of digests) {
      const bank = BANKS[algorithm];
      if (bank === undefined) continue;
      const { hash, size, values } = found[bank];
      const before = values.get(pcr) ?? new Uint8Array(size);
      if (type !== NO_ACTION) values.set(pcr, await digest(hash, before, value));
      else if (locality) {
        const first = new Uint8Array(size);
        first[size - 1] = event[LOCALITY.length];
        values.set(0, first);
      }
    }
  }
  let compared = 0;
  for (const [bank, quoted] of Object.entries(pcrs)) {
    if (found[bank] === undefined) continue;
    for (const [pcr, value] of quoted) {
      const led = found[bank].values.get(pcr);
      if (led === undefined && pcr >= FIRMWARE_PCRS) continue;
      must(equal(value, led ?? new Uint8Array(found[bank].size)), `bank ${bank}: PCR ${pcr}`);
      compared += 1;
    }
  }
  must(compared > 0, "nothing that is quoted is in the log");
}
