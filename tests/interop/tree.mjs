// The tree of RFC 9162, section 2.1, with SHA-256.
import { Malformed, equal, must, sha256 } from "./bytes.mjs";

export const leafHash = (bytes) => sha256(Uint8Array.of(0), bytes);
export const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);

const size = (value) => Number.isSafeInteger(value) && value >= 0;
const hashes = (path) => path.every((hash) => hash.length === 32);
const half = (value) => Math.floor(value / 2);
const formed = (condition, message) => {
  if (!condition) throw new Malformed(message);
};
const odd = (value) => value % 2 === 1;

// Section 2.1.3.2, to the root that the path leads to.
export async function rootFrom(leaf, index, treeSize, path) {
  formed(size(index) && size(treeSize) && index < treeSize, "the index is outside the tree");
  formed(leaf.length === 32 && hashes(path), "a hash of another length");
  let [fn, sn, root] = [index, treeSize - 1, leaf];
  for (const hash of path) {
    formed(sn !== 0, "the path is too long");
    if (odd(fn) || fn === sn) {
      root = await nodeHash(hash, root);
      while (!odd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else root = await nodeHash(root, hash);
    [fn, sn] = [half(fn), half(sn)];
  }
  formed(sn === 0, "the path is too short");
  return root;
}

export async function verifyInclusion(leaf, index, treeSize, path, root) {
  must(equal(await rootFrom(leaf, index, treeSize, path), root), "another root");
}

// Section 2.1.4.2, to the root of the larger tree. Two trees of one size are consistent when they are the same one, and nothing proves it but the root.
export async function newRootFrom(oldSize, newSize, path, oldRoot) {
  formed(size(oldSize) && size(newSize) && oldSize >= 1 && oldSize <= newSize, "the sizes");
  formed(oldRoot.length === 32 && hashes(path), "a hash of another length");
  if (oldSize === newSize) {
    formed(path.length === 0, "the path is too long");
    return oldRoot;
  }
  formed(path.length > 0, "no path");
  const power = Number.isInteger(Math.log2(oldSize)) && 2 ** Math.log2(oldSize) === oldSize;
  const [first, ...rest] = power ? [oldRoot, ...path] : path;
  let [fn, sn] = [oldSize - 1, newSize - 1];
  while (odd(fn)) [fn, sn] = [half(fn), half(sn)];
  let [fr, sr] = [first, first];
  for (const hash of rest) {
    formed(sn !== 0, "the path is too long");
    if (odd(fn) || fn === sn) {
      [fr, sr] = [await nodeHash(hash, fr), await nodeHash(hash, sr)];
      while (!odd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else sr = await nodeHash(sr, hash);
    [fn, sn] = [half(fn), half(sn)];
  }
  formed(sn === 0, "the path is too short");
  must(equal(fr, oldRoot), "another old root");
  return sr;
}

export async function verifyConsistency(oldSize, newSize, path, oldRoot, newRoot) {
  must(equal(await newRootFrom(oldSize, newSize, path, oldRoot), newRoot), "another new root");
}
