"""rensa's R-MinHash alone, one thread, runs of chars=24 characters: MB of text for each second of processor time.

kernel: the windows are hashed before; text: what a Python program has to do, cut the text into windows and pass them on.
"""
import json
import time

import numpy as np
import rensa

from common import HASHES, arguments, read

folder, _, options = arguments()
chars = int(options.get("chars", 24))
texts = read(folder, ["id", "text"])["text"].to_pylist()
size = sum(len(t.encode()) for t in texts)


def windows(text):
    return [text[i:i + chars] for i in range(max(1, len(text) - chars + 1))]


def hashes(text):
    """A 64-bit hash of every window, by sums of products with random odd numbers."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    random = np.random.default_rng(1).integers(0, 2**63, chars, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    n = max(1, len(points) - chars + 1)
    h = np.zeros(n, np.uint64)
    for j in range(min(chars, len(points))):
        h += points[j:n + j] * random[j]
    return h ^ (h >> np.uint64(29))


tokens = [hashes(t) for t in texts]
offsets = np.cumsum([0] + [len(t) for t in tokens]).astype(np.uint64)
flat = np.concatenate(tokens)
start = time.process_time()
rensa.RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, HASHES, 42)
kernel = time.process_time() - start
start = time.process_time()
rensa.RMinHash.from_token_sets([windows(t) for t in texts], HASHES, 42)
whole = time.process_time() - start
print(json.dumps({"kernel": size / 1e6 / kernel, "text": size / 1e6 / whole}))
