#!/usr/bin/env node
// Verify a bundle offline: node verify.mjs BUNDLE [--as-of SECONDS] [--accept-software-key]. Exit codes: 0 verified, 10 refused, 30 malformed.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { parseBundle, verifyBundle } from "./bundle.mjs";
import { Steps } from "./steps.mjs";

const [VERIFIED, REFUSED, MALFORMED] = [0, 10, 30];

const { values, positionals } = parseArgs({ allowPositionals: true, options: { "as-of": { type: "string" }, "accept-software-key": { type: "boolean", default: false } } });
const at = values["as-of"] === undefined ? Math.floor(Date.now() / 1000) : Number(values["as-of"]);
if (positionals.length !== 1 || !Number.isSafeInteger(at)) {
  console.error("usage: verify.mjs BUNDLE [--as-of SECONDS] [--accept-software-key]");
  process.exit(2);
}

const steps = new Steps();
const bundle = await steps.take("bundle", () => parseBundle(new Uint8Array(readFileSync(positionals[0]))));
if (bundle !== null) await verifyBundle(bundle, at, steps, values["accept-software-key"]);
console.log(JSON.stringify({ ok: steps.ok, steps: steps.list }, null, 1));
process.exitCode = steps.ok ? VERIFIED : steps.malformed ? MALFORMED : REFUSED;
