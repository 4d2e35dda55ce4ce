// Firmware's log in the crypto-agile form of the TCG PC Client Platform Firmware Profile.
import { Malformed, digest, equal, must } from "./bytes.mjs";
import { BANKS, HASHES } from "./tpm.mjs";

const NO_ACTION = 3;
const SIGNATURE = "Spec ID Event03\0";
const LOCALITY = "StartupLocality\0";
const FIRMWARE_PCRS = 8;

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
  reader.u32(); // PCR
  if (reader.u32() !== NO_ACTION) throw new Malformed("event log: no header");
  reader.take(20);
  const inner = new Reader(reader.take(reader.u32()));
  if (!starts(inner.take(SIGNATURE.length), SIGNATURE)) throw new Malformed("event log: not crypto-agile");
  inner.take(8); // platform class, versions, size of a word
  return new Map(Array.from({ length: inner.u32() }, () => [inner.u16(), inner.u16()]));
}

// Every quoted PCR of the firmware, and every other that the log extends, has the value that the log leads to.
export async function replay(bytes, pcrs) {
  const reader = new Reader(bytes);
  const sizes = header(reader);
  const found = {};
  for (const [algorithm, size] of sizes)
    if (BANKS[algorithm]) found[BANKS[algorithm]] = { hash: HASHES[algorithm], size, values: new Map() };
  while (reader.at < bytes.length) {
    const [pcr, type] = [reader.u32(), reader.u32()];
    const digests = Array.from({ length: reader.u32() }, () => {
      const algorithm = reader.u16();
      if (!sizes.has(algorithm)) throw new Malformed("event log: an algorithm that the header does not name");
      return [BANKS[algorithm], reader.take(sizes.get(algorithm))];
    });
    const event = reader.take(reader.u32());
    for (const [bank, value] of digests) {
      if (bank === undefined) continue;
      const { hash, size, values } = found[bank];
      const before = values.get(pcr) ?? new Uint8Array(size);
      if (type !== NO_ACTION) values.set(pcr, await digest(hash, before, value));
      else if (pcr === 0 && starts(event, LOCALITY)) {
        const first = new Uint8Array(size);
        first[size - 1] = event[LOCALITY.length];
        values.set(0, first);
      }
    }
  }
  for (const [bank, quoted] of Object.entries(pcrs)) {
    must(found[bank] !== undefined, `bank ${bank}: not in the log`);
    for (const [pcr, value] of quoted) {
      const led = found[bank].values.get(pcr);
      if (led === undefined && pcr >= FIRMWARE_PCRS) continue;
      must(equal(value, led ?? new Uint8Array(found[bank].size)), `bank ${bank}: PCR ${pcr}`);
    }
  }
}
