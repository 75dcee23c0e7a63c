"""What the scripts share. A script is called as

    run_NAME.py INPUT OUTPUT [key=value ...]

INPUT is a folder of Parquet files with the columns id (0 to n-1), text and source. The script removes near-duplicates and
writes the rows that stay to OUTPUT/kept/*.parquet, with all columns. It prints nothing but, at the end, a line of JSON.

Every rival gets what Dovetail's defaults are as far as it can: 260 hashes in 20 bands of 13 rows. Where a library stops at
signatures, what is missing is done here with numpy and scipy: buckets by sorting, clusters as connected components.
"""
import glob
import json
import os
import sys

import numpy as np

HASHES, BANDS, ROWS, THRESHOLD = 260, 20, 13, 0.8


def arguments():
    """The input folder, the output folder and the options."""
    return sys.argv[1], sys.argv[2], dict(a.split("=", 1) for a in sys.argv[3:])


def files(folder):
    return sorted(glob.glob(f"{folder}/*.parquet"))


def read(folder, columns=None):
    """The table of all files in the order of their ids."""
    import pyarrow.parquet as pq
    return pq.read_table(files(folder), columns=columns).sort_by("id")


def bucket_edges(signatures):
    """Edges that join the documents of every bucket; signatures is an array of documents by hashes."""
    left, right = [], []
    for band in range(BANDS):
        rows = np.ascontiguousarray(signatures[:, band * ROWS:(band + 1) * ROWS])
        keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * ROWS))).ravel()
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        left.append(order[same])
        right.append(order[same + 1])
    return np.concatenate(left), np.concatenate(right)


def first_of_each_cluster(n, left, right):
    """Which of n documents stay if one of each connected component does: the first."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    graph = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    keep = np.zeros(n, bool)
    keep[np.unique(labels, return_index=True)[1]] = True
    return keep


def write_kept(folder, out, keep):
    """Write the rows whose place in the order of ids is kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    os.makedirs(f"{out}/kept", exist_ok=True)
    pq.write_table(read(folder).filter(pa.array(keep)), f"{out}/kept/part-0.parquet", compression="zstd")


def words(text, n=5):
    """The runs of n words; a text of fewer words is one run."""
    w = text.split()
    return [" ".join(w[i:i + n]) for i in range(max(1, len(w) - n + 1))]


def done(package, **more):
    from importlib.metadata import version
    print(json.dumps({"version": version(package), **more}))
