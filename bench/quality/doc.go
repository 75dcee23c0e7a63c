// Package quality measures how many near-duplicates each mode of dedup and NeMo Curator's workflow find, and how many of
// the documents they remove are near-duplicates, on real text with known pairs.
//
// The pairs are documents and perturbed copies of them: words replaced, deleted, inserted, moved, or changed in case,
// more in some than in others, so that the exact similarities of the pairs cover the range in question. Each
// document has one copy, so that a pair is found by its own buckets or not at all, and recall can be set beside what
// the S-curve of the bands predicts.
package quality
