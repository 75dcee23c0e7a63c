// Package curator runs NeMo Curator's text deduplication: its stages and workflows with its parameters, on its files, with
// its results, on processors instead of GPUs.
//
//	MinHash       documents            -> MinHashStage/<task>.parquet                  a signature per document
//	LSH           signatures           -> LSHStage/band_<lo>-band_<hi>/part.<n>.parquet  buckets of two and more
//	Components    buckets              -> BucketsToEdgesStage/, ConnectedComponentsStage/, FuzzyDuplicateIds/
//	Fuzzy         all three, as FuzzyDeduplicationWorkflow does
//	Exact         documents            -> ExactDuplicateIds/part.<n>.parquet            ExactDeduplicationWorkflow
//	Remove        documents, ids       -> the documents without them                   TextDuplicatesRemovalWorkflow
//
// Signatures, bucket strings, partition numbers, edges, groups and column types are those of Curator 1.x with cuDF, bit for
// bit. There is no verification: what shares a bucket is a duplicate, and so is what is connected through others. Null
// documents share all buckets, and so do empty ones; the exact workflow takes null and empty for the same.
//
// # Departures
//
// Where Curator's result depends on which of several processes came first, ours does not:
//
//   - The id of a document is (index of its file in the sorted input) << 32 | row, not a counter. The row of a JSON Lines
//     document is the number of its line.
//   - The survivor of a group, and its label, is the smallest id.
//   - Rows lie in ascending order: buckets by band and MD5, edges by bucket, vertices, removal ids and the ids of a bucket
//     ascending. Signatures lie in the order of the files of their group, as Curator's do.
//   - ConnectedComponentsStage and FuzzyDuplicateIds have as many files as [ComponentsOptions].Files says. Curator writes
//     one for each GPU. Which of several files a vertex is in is the hash of its id, where Curator's is cuGraph's business.
//   - A folder appears when it is complete, with a file "_dovetail.manifest" in it that says what it was made of. Curator
//     deletes its output folders when a pipeline is built; here a folder that is there already is refused, unless it is
//     what this call would make, or [Exec].Overwrite is set.
//   - The sizes of row groups of removal ids follow each partition's own number of rows. Curator's stick to those of the
//     first partition that a process wrote.
//
// # Running
//
// Every stage runs on package executor: any number of ranks and workers, in bounded memory, and from where it was after
// a crash. None of that changes a byte of a result.
package curator

// Names that Curator's files and columns have.
const (
	IDColumn         = "_curator_dedup_id"        // int64
	MinhashColumn    = "_minhash_signature"       // list<uint32> or list<uint64>
	BucketColumn     = "_bucket_id"               // string
	GroupColumn      = "_duplicate_group_id"      // int64
	MinHashDir       = "MinHashStage"             // in the cache
	LSHDir           = "LSHStage"                 // in the cache
	EdgesDir         = "BucketsToEdgesStage"      // in the cache
	ComponentsDir    = "ConnectedComponentsStage" // in the cache
	FuzzyIDsDir      = "FuzzyDuplicateIds"        // in the output
	ExactIDsDir      = "ExactDuplicateIds"        // in the output
	FuzzyIDGenerator = "fuzzy_id_generator.json"  // in the output
	ExactIDGenerator = "exact_id_generator.json"  // in the output
)
