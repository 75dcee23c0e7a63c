"""gaoya: its index of strings, words=5 or chars=24, which drops candidates whose estimate is below the threshold.

Its query hashes each document again, so that the signatures are computed twice.
"""
import numpy as np
from gaoya.minhash import MinHashStringIndex

from common import BANDS, ROWS, THRESHOLD, arguments, done, first_of_each_cluster, read, write_kept

folder, out, options = arguments()
analyzer, width = ("char", int(options["chars"])) if "chars" in options else ("word", int(options.get("words", 5)))
texts = read(folder, ["id", "text"])["text"].to_pylist()
index = MinHashStringIndex(hash_size=32, jaccard_threshold=THRESHOLD, num_bands=BANDS, band_size=ROWS, analyzer=analyzer,
                           lowercase=False, ngram_range=(width, width), id_container="vec")
BATCH = 5000
for start in range(0, len(texts), BATCH):
    part = texts[start:start + BATCH]
    index.par_bulk_insert_docs(list(range(start, start + len(part))), part)
left, right = [], []
for start in range(0, len(texts), BATCH):
    for i, found in enumerate(index.par_bulk_query(texts[start:start + BATCH])):
        later = [j for j in found if j > start + i]
        left += [start + i] * len(later)
        right += later
keep = first_of_each_cluster(len(texts), np.array(left, np.int64), np.array(right, np.int64))
write_kept(folder, out, keep)
done("gaoya")
