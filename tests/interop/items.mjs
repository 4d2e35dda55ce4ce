#!/usr/bin/env node
// Judge evidence items of the kind tpm2: node items.mjs DIRECTORY BINDING TIME. Prints {"FILE": [ids of steps that failed]}.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { unb64u } from "./bytes.mjs";
import { parseItem, verifyItem } from "./evidence.mjs";
import { Steps } from "./steps.mjs";

const [directory, binding, time] = process.argv.slice(2);
const found = {};
for (const file of readdirSync(directory)) {
  const steps = new Steps();
  const item = await steps.take("evidence.encoding", () => parseItem(new Uint8Array(readFileSync(join(directory, file)))));
  if (item !== null) await verifyItem(item, { binding: unb64u(binding) }, Date.parse(time) / 1000, steps);
  found[file] = steps.list.filter((step) => !step.ok).map((step) => step.id);
}
console.log(JSON.stringify(found));
