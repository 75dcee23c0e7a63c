// Package dedup finds and removes near-duplicate documents: the pipeline from a folder of texts to the same
// folder without duplicates, and the evidence for every removal.
//
// # The rule
//
// Let pi order documents by keep key, then by ordinal (their place in the sorted input). Identical texts form a
// class, represented by its pi-smallest member. Only representatives enter the bands. In each bucket the four
// pi-smallest documents are its leaders; C is the set of pairs (leader l, member d), l before d, over all
// bands. In pi order, each d is tested against the distinct rep(l), pi-smallest first; the first with exact
// Jaccard similarity >= threshold becomes rep(d), and d is removed for it; if there is none, d is kept and
// rep(d) = d. The other members of a class share their representative's fate, or are removed for it.
// [Reference] states the same as a short program.
//
// Documents of a reference set ([Options].Against) come before all others in pi, by ordinal, and are never tested:
// each is kept, whatever its class or its leaders, and only documents of the input are removed.
//
// Nothing in the rule depends on when or where something is computed, so the result is a function of the input
// and the [Spec] alone; [Digest] names it.
//
// # The flow
//
//	sign        read every text once: content hash, band keys                   per split of the input
//	leave-out   only with --on-bad-file skip, and where other splits of a bad file have rows
//	ids         only with --id-field: shuffle by id, to find ids that documents share
//	exact       shuffle by content hash: classes and their representatives
//	members     back to the splits: who is not a representative
//	bands-*     shuffle by band key: buckets, leaders, pairs                    some bands at a time
//	components  connected components of the pairs
//	route       pairs and labels back to the splits: the candidates
//	decide      read the candidates' texts, shuffle them by component, decide
//	spread      verdicts to the members of the classes
//	clusters    sizes of clusters, ids of kept documents
//	removals    back to the splits, sorted
//	write       filter or annotate the files, write the tables, add up the digest
//	samples     reread the few documents that the report shows
//
// Each stage's results are work files, committed one by one, so a run that was killed goes on where it was.
// Text is read twice, in order, and travels once, for candidates only. What a stage holds is bounded by an actor's share
// of memory whatever the shape of the input: tables of groups by passes over a partition, ordered rows by sorting in
// scratch files, lists of components by a reservation.
package dedup
