"""rensa: R-MinHash of runs of 5 words.

mode=inline  its streaming deduplicator, which compares estimates within buckets: order matters, no clusters
mode=batch   all signatures first, buckets and clusters outside
"""
import numpy as np
import rensa

from common import BANDS, HASHES, THRESHOLD, arguments, bucket_edges, done, first_of_each_cluster, read, words, write_kept

folder, out, options = arguments()
texts = read(folder, ["id", "text"])["text"].to_pylist()
BATCH = 2000  # texts, so that the lists of words do not all exist at once


def batches():
    for start in range(0, len(texts), BATCH):
        yield start, rensa.RMinHash.from_token_sets([words(t) for t in texts[start:start + BATCH]], HASHES, 42)


if options.get("mode", "inline") == "inline":
    deduplicator = rensa.RMinHashDeduplicator(threshold=THRESHOLD, num_perm=HASHES, use_lsh=True, num_bands=BANDS)
    keep = []
    for start, signatures in batches():
        keep += deduplicator.add_pairs([(str(start + i), s) for i, s in enumerate(signatures)])
    keep = np.array(keep)
else:
    rows = [np.array([s.digest() for s in signatures], np.uint32) for _, signatures in batches()]
    keep = first_of_each_cluster(len(texts), *bucket_edges(np.concatenate(rows)))
write_kept(folder, out, keep)
done("rensa")
