// Package data makes the texts that benchmarks run on, from Debian packages, so that any machine can have them, and says
// what they are made of in a manifest.
//
//	code       source files of two kernel releases: a file is in both, with any similarity
//	prose      documentation in many languages: pages that are translated in part, and much boilerplate
//	perturbed  texts of prose, each with one edited copy of known similarity
//	skewed     the table, a tenth of whose rows have one key
//	stress     lengths after Zipf, one cluster of 100,000, a bucket with a tenth of all rows, CJK and emoji
//	table      numbers and short strings, to be shuffled
//
// Sets of texts are folders of Parquet files with the columns id (int64), text and source (strings), zstd, in an order in
// which similar texts are apart. A set code-sample or prose-sample has the documents of some thousand paths, with all the
// versions of each: small enough to compare all with all.
//
// Packages come by `apt-get download`, with whatever index that is set up to use, and are read where they lie; nothing is
// installed. Their versions move with the distribution, and the counts of a set a little with them: the manifest has the
// version and the SHA-256 of each package and of each file that was made of it.
package data
