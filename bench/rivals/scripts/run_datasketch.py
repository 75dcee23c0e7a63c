"""datasketch: MinHash (scheme affine32, numpy) of runs of words=5 or chars=24 in two processes, then MinHashLSH."""
from multiprocessing import Pool, cpu_count

import numpy as np
import xxhash
from datasketch import MinHash, MinHashLSH

from common import BANDS, HASHES, ROWS, arguments, done, first_of_each_cluster, read, words, write_kept

folder, out, options = arguments()
chars = int(options.get("chars", 0))


def empty():
    return MinHash(num_perm=HASHES, hashfunc=xxhash.xxh32_intdigest, scheme="affine32")


def tokens(text):
    if chars:
        return {text[i:i + chars].encode("utf-8", "surrogatepass") for i in range(max(1, len(text) - chars + 1))}
    return {w.encode() for w in words(text)}


def sign(texts):
    start, rows = empty(), []
    for text in texts:
        m = start.copy()
        m.update_batch(list(tokens(text)))
        rows.append(m.hashvalues)
    return np.array(rows)


if __name__ == "__main__":
    texts = read(folder, ["id", "text"])["text"].to_pylist()
    with Pool(cpu_count()) as pool:
        rows = np.concatenate(pool.map(sign, [texts[i:i + 250] for i in range(0, len(texts), 250)], chunksize=1))
    lsh, start, left, right = MinHashLSH(num_perm=HASHES, params=(BANDS, ROWS)), empty(), [], []
    with lsh.insertion_session() as session:
        for i in range(len(texts)):
            m = start.copy()
            m.hashvalues = rows[i]
            for j in lsh.query(m):
                left.append(i)
                right.append(j)
            session.insert(i, m, check_duplication=False)
    keep = first_of_each_cluster(len(texts), np.array(left, np.int64), np.array(right, np.int64))
    write_kept(folder, out, keep)
    done("datasketch")
