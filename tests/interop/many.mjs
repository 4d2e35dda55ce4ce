#!/usr/bin/env node
// Verify many bundles at once, with keys in software: node many.mjs DIRECTORY SECONDS. Prints {"FILE": {"ok", "steps"}}.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { parseBundle, verifyBundle } from "./bundle.mjs";
import { Steps } from "./steps.mjs";

const [directory, at] = [process.argv[2], Number(process.argv[3])];
const found = {};
for (const file of readdirSync(directory)) {
  const steps = new Steps();
  const bundle = await steps.take("bundle", () => parseBundle(new Uint8Array(readFileSync(join(directory, file)))));
  if (bundle !== null) await verifyBundle(bundle, at, steps, true);
  found[file] = { ok: steps.ok, steps: steps.list };
}
console.log(JSON.stringify(found));
