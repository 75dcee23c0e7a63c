// Package rivals measures the Parquet and JSON libraries that package corpus does not use, on the same texts and in the
// same way as its own benchmarks. docs/design/20261123-readers.md says why they were not chosen. They are in a
// module of their own, so that nobody else has to download them:
//
//	cd dedup/corpus/internal/rivals && go test -bench . -benchtime 3x
package rivals
