"""NeMo Curator's exact and fuzzy deduplication as a plain program, to compare the Go one with.

    reference.py check JOBS.json         for each job in a list: compute every folder that the workflows make, write it with
                                         pyarrow to job["reference"], and compare it with job["ours"] file by file: names,
                                         types, rows, row groups of ids
    reference.py golden > golden.json    what it computes for a small corpus, for a test without Python

It was written from a description of Curator's behaviour, shares nothing with the Go program, and takes its random numbers
from numpy and its hashes from hashlib. Where Curator leaves a choice to chance it takes the one that Dovetail declares:
ids are (file << 32) | row, the smallest id survives, rows ascend.
"""
import hashlib, json, os, re, sys, tempfile, uuid

import numpy as np, pyarrow as pa, pyarrow.parquet as pq

P31, P61 = 2**31 - 1, 2**61 - 1


# ---- hashes -------------------------------------------------------------------------------------------------------

def rotl(x, r, bits):
    return (x << x.dtype.type(r)) | (x >> x.dtype.type(bits - r))


def murmur32(rows, seed):
    """MurmurHash3_x86_32 of every row of a matrix of bytes."""
    n, size = rows.shape
    u = np.uint32
    h = np.full(n, seed, u)
    c1, c2 = u(0xcc9e2d51), u(0x1b873593)
    body = np.ascontiguousarray(rows[:, :size // 4 * 4]).view("<u4")
    for i in range(size // 4):
        k = rotl(body[:, i] * c1, 15, 32) * c2
        h = rotl(h ^ k, 13, 32) * u(5) + u(0xe6546b64)
    tail = rows[:, size // 4 * 4:]
    if tail.shape[1]:
        k = np.zeros(n, u)
        for i in range(tail.shape[1]):
            k |= tail[:, i].astype(u) << u(8 * i)
        h ^= rotl(k * c1, 15, 32) * c2
    h ^= u(size)
    h ^= h >> u(16)
    h *= u(0x85ebca6b)
    h ^= h >> u(13)
    h *= u(0xc2b2ae35)
    return h ^ (h >> u(16))


def murmur64(rows, seed):
    """The first word of MurmurHash3_x64_128 of every row, both halves of whose state start as the 64-bit seed."""
    n, size = rows.shape
    u = np.uint64
    c1, c2 = u(0x87c37b91114253d5), u(0x4cf5ad432745937f)
    h1, h2 = np.full(n, seed, u), np.full(n, seed, u)
    body = np.ascontiguousarray(rows[:, :size // 16 * 16]).view("<u8")
    for i in range(size // 16):
        h1 ^= rotl(body[:, 2 * i] * c1, 31, 64) * c2
        h1 = (rotl(h1, 27, 64) + h2) * u(5) + u(0x52dce729)
        h2 ^= rotl(body[:, 2 * i + 1] * c2, 33, 64) * c1
        h2 = (rotl(h2, 31, 64) + h1) * u(5) + u(0x38495ab5)
    tail = rows[:, size // 16 * 16:]
    k1, k2 = np.zeros(n, u), np.zeros(n, u)
    for i in range(tail.shape[1]):
        if i < 8:
            k1 |= tail[:, i].astype(u) << u(8 * i)
        else:
            k2 |= tail[:, i].astype(u) << u(8 * (i - 8))
    if tail.shape[1] > 8:
        h2 ^= rotl(k2 * c2, 33, 64) * c1
    if tail.shape[1] > 0:
        h1 ^= rotl(k1 * c1, 31, 64) * c2
    h1 ^= u(size)
    h2 ^= u(size)
    h1 += h2
    h2 += h1

    def mix(h):
        h = (h ^ (h >> u(33))) * u(0xff51afd7ed558ccd)
        h = (h ^ (h >> u(33))) * u(0xc4ceb9fe1a85ec53)
        return h ^ (h >> u(33))
    return mix(h1) + mix(h2)


def by_length(strings, hash_rows):
    """Hash byte strings of any lengths, those of one length together."""
    out = [None] * len(strings)
    lengths = {}
    for i, s in enumerate(strings):
        lengths.setdefault(len(s), []).append(i)
    for size, index in lengths.items():
        rows = np.frombuffer(b"".join(strings[i] for i in index), np.uint8).reshape(len(index), size)
        for i, h in zip(index, hash_rows(rows)):
            out[i] = int(h)
    return out


def part_of(keys, nparts):
    """cuDF's hash_partition of a column of strings (bytes)."""
    return [h % nparts for h in by_length(keys, lambda rows: murmur32(rows, 0))]


# ---- signatures ---------------------------------------------------------------------------------------------------

def permutations(seed, n, wide):
    rng = np.random.RandomState(seed)
    p, dtype = (P61, np.uint64) if wide else (P31, np.uint32)
    pairs = [(rng.randint(1, p, dtype=dtype), rng.randint(0, p, dtype=dtype)) for _ in range(n)]
    return np.array(pairs, dtype)


def signature(text, width, perms, wide):
    """The minimum of every permutation over the windows of a text, or None."""
    if text is None:
        return None
    dtype = np.uint64 if wide else np.uint32
    if text == "":
        return np.zeros(len(perms), dtype)
    raw = text.encode()
    data = np.frombuffer(raw, np.uint8)
    starts = np.flatnonzero((data & 0xC0) != 0x80)
    if len(starts) <= width:
        first, size = np.array([0]), np.array([len(raw)])
    else:
        ends = np.append(starts, len(raw))
        first = starts[:len(starts) - width + 1]
        size = ends[width:] - first
    hashes = []
    for n in np.unique(size):
        at = first[size == n]
        for k in range(0, len(at), 1 << 14):
            rows = data[at[k:k + (1 << 14), None] + np.arange(n)]
            hashes.append((murmur64 if wide else murmur32)(rows, perms[0, 0]))
    h = np.unique(np.maximum(np.concatenate(hashes), dtype(1)))
    best = np.full(len(perms), np.iinfo(dtype).max, dtype)
    for k in range(0, len(h), 4096):
        v = h[k:k + 4096, None] * perms[:, 0] + perms[:, 1]
        if wide:
            v %= np.uint64(P61)
        best = np.minimum(best, v.min(axis=0))
    return best


# ---- files --------------------------------------------------------------------------------------------------------

def find(folder):
    found = []
    for dir, _, names in os.walk(folder):
        found += [os.path.join(dir, n) for n in names if n.endswith((".jsonl", ".parquet"))]
    return sorted(found, key=lambda p: os.path.relpath(p, folder).encode())


def read(path, text_field):
    """The documents of a file as {row: text}."""
    if path.endswith(".parquet"):
        return dict(enumerate(pq.read_table(path, columns=[text_field]).column(0).to_pylist()))
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    return {i: json.loads(s).get(text_field) for i, s in enumerate(lines) if s.strip()}


def groups(paths, blocksize):
    """FilePartitioningStage: lists of paths."""
    if not blocksize:
        return [[p] for p in paths]
    out, held = [], 0
    for p in sorted(paths, key=os.path.getsize):
        size = os.path.getsize(p)
        if not out or held + size > blocksize:
            out, held = out + [[]], 0
        out[-1].append(p)
        held += size
    return out


def group_id(paths):
    return hashlib.sha256(("|".join(sorted(paths)) + "|").encode()).hexdigest()[:12]


def write(path, table, **kwargs):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pq.write_table(table, path, **kwargs)


def ids_table(name, ids):
    return pa.table({name: pa.array(ids, pa.int64())})


def removal_groups(n):
    return max(1000, min(n // 10, 1_000_000))


# ---- the workflows ------------------------------------------------------------------------------------------------

class Job:
    def __init__(self, config):
        self.c = config
        self.paths = find(config["input"])
        self.docs = {}  # path -> [(id, text)]
        for i, p in enumerate(self.paths):
            self.docs[p] = [(i << 32 | row, text) for row, text in read(p, config["text_field"]).items()]
        self.cache, self.out = {}, {}  # relative path -> table
        self.row_groups = {}

    def minhash(self):
        c = self.c
        perms = permutations(c["seed"], c["num_bands"] * c["minhashes_per_band"], c["use_64bit_hash"])
        self.sigs = {}
        element = pa.uint64() if c["use_64bit_hash"] else pa.uint32()
        for paths in groups(self.paths, c["input_blocksize"]):
            docs = [d for p in paths for d in self.docs[p]]
            for id, text in docs:
                self.sigs[id] = signature(text, c["char_ngrams"], perms, c["use_64bit_hash"])
            self.cache[f"MinHashStage/0_{group_id(paths)}.parquet"] = pa.table({
                "_curator_dedup_id": pa.array([id for id, _ in docs], pa.int64()),
                "_minhash_signature": pa.array([self.sigs[id] for id, _ in docs], pa.list_(element)),
            })

    def lsh(self):
        c = self.c
        r, nparts, self.buckets = c["minhashes_per_band"], c["total_nparts"] or 1, []
        order = "<u8" if c["use_64bit_hash"] else "<u4"
        for lo in range(0, c["num_bands"], c["bands_per_iteration"]):
            hi = min(c["num_bands"], lo + c["bands_per_iteration"])
            members = {}
            for id in sorted(self.sigs):
                sig = self.sigs[id]
                for band in range(lo, hi):
                    raw = b"" if sig is None else sig[band * r:(band + 1) * r].astype(order).tobytes()
                    members.setdefault((band - lo, hashlib.md5(raw).hexdigest()), []).append(id)
            keys = sorted(k for k, ids in members.items() if len(ids) > 1)
            names = [f"b{i}_{md5}" for i, md5 in keys]
            parts = part_of([n.encode() for n in names], nparts)
            for p in range(nparts):
                mine = [(n, members[k]) for n, k, q in zip(names, keys, parts) if q == p]
                self.cache[f"LSHStage/band_{lo}-band_{hi}/part.{p}.parquet"] = pa.table({
                    "_bucket_id": pa.array([n for n, _ in mine], pa.string()),
                    "_curator_dedup_id": pa.array([ids for _, ids in mine], pa.list_(pa.int64())),
                })
                if mine:
                    self.buckets.append([ids for _, ids in mine])

    def components(self):
        c = self.c
        if not self.buckets:
            return
        neighbours, names = {}, []
        for k, part in enumerate(self.buckets):
            edges = [e for ids in part for e in zip(ids, ids[1:])]
            for x, y in edges:
                neighbours.setdefault(x, []).append(y)
                neighbours.setdefault(y, []).append(x)
            self.cache[f"BucketsToEdgesStage/0_{k}.parquet"] = pa.table({
                "_curator_dedup_id_x": pa.array([x for x, _ in edges], pa.int64()),
                "_curator_dedup_id_y": pa.array([y for _, y in edges], pa.int64()),
            })
            names.append(f"0_{k}_" + group_id([f"{c['cache']}/BucketsToEdgesStage/0_{k}.parquet"]))
        label = {}
        for start in sorted(neighbours):  # so the first to reach a vertex is the smallest
            todo = [start]
            while todo:
                v = todo.pop()
                if v not in label:
                    label[v] = start
                    todo += neighbours[v]
        files = [x.tolist() for x in np.array_split(np.arange(len(names)), c["components_files"]) if len(x)]
        key = lambda n: n.to_bytes(8, "little")
        ids = sorted(label)
        parts = part_of([key(i) for i in ids], len(files))
        for f, batch in enumerate(files):
            mine = [i for i, p in zip(ids, parts) if p == f]
            self.cache[f"ConnectedComponentsStage/{names[batch[0]]}.parquet"] = pa.table({
                "_curator_dedup_id": pa.array(mine, pa.int64()),
                "_duplicate_group_id": pa.array([label[i] for i in mine], pa.int64()),
            })
        parts = part_of([key(label[i]) for i in ids], len(files))
        for f in range(len(files)):
            gone = [i for i, p in zip(ids, parts) if p == f and label[i] != i]
            self.removal("FuzzyDuplicateIds", f, gone)

    def removal(self, folder, part, gone):
        name = f"{folder}/part.{part}.parquet"
        self.out[name] = ids_table("_curator_dedup_id", gone)
        self.row_groups[name] = removal_groups(len(gone))

    def exact(self):
        c = self.c
        nparts = c["exact_nparts"] or max(1, len(groups(self.paths, c["input_blocksize"])) // 3)
        first, gone = {}, []
        for p in self.paths:
            for id, text in self.docs[p]:
                h = hashlib.md5((text or "").encode()).hexdigest()
                if h in first:
                    gone.append((id, h))
                first.setdefault(h, id)
        parts = part_of([h.encode() for _, h in gone], nparts)
        for k in range(nparts):
            self.removal("ExactDuplicateIds", k, sorted(id for (id, _), p in zip(gone, parts) if p == k))

    def generator(self, name):
        registry, next_id = {}, 0
        for i, p in enumerate(self.paths):
            last = max([id for id, _ in self.docs[p]], default=(i << 32) - 1)
            registry[str(uuid.uuid5(uuid.NAMESPACE_URL, p))] = [i << 32, last]
            next_id = max(next_id, last + 1)
        self.out[name] = {"next_id": next_id, "batch_registry": registry}

    def run(self):
        self.minhash()
        self.lsh()
        self.components()
        self.exact()
        self.generator("fuzzy_id_generator.json")
        self.generator("exact_id_generator.json")
        return self


def make(config, out):
    job = Job(config).run()
    for sub, files in (("cache", job.cache), ("out", job.out)):
        for name, table in files.items():
            path = os.path.join(out, sub, name)
            if isinstance(table, dict):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                json.dump(table, open(path, "w"))
            else:
                write(path, table, row_group_size=job.row_groups.get(name, 1 << 20))


def compare(ours, ref):
    def listing(root):
        return {os.path.relpath(os.path.join(d, n), root) for d, _, names in os.walk(root) for n in names
                if n != "_dovetail.manifest"}
    a, b = listing(ours), listing(ref)
    assert a == b, f"only in ours: {sorted(a - b)}, only in the reference: {sorted(b - a)}"
    rows = 0
    for name in sorted(a):
        x, y = os.path.join(ours, name), os.path.join(ref, name)
        if name.endswith(".json"):
            assert json.load(open(x)) == json.load(open(y)), name
            continue
        t, u = pq.read_table(x), pq.read_table(y)
        assert t.schema.names == u.schema.names and t.schema.types == u.schema.types, (name, t.schema, u.schema)
        if not t.equals(u):
            for i, (r, s) in enumerate(zip(t.to_pylist(), u.to_pylist())):
                assert r == s, (name, i, r, s)
            raise AssertionError((name, t.num_rows, u.num_rows))
        if "DuplicateIds" in name:
            sizes = [[f.metadata.row_group(g).num_rows for g in range(f.metadata.num_row_groups)]
                     for f in (pq.ParquetFile(x), pq.ParquetFile(y))]
            assert [s for s in sizes[0] if s] == [s for s in sizes[1] if s], (name, sizes)
        rows += t.num_rows
    print(f"{len(a)} files with {rows} rows are as they should be")


# ---- the golden result --------------------------------------------------------------------------------------------

FOX = "The quick brown fox jumps over the lazy dog"
GOLDEN = {
    "a.jsonl": [FOX, FOX, "", None, "короткий", "数据去重的文档,每一句都要比较,一个字也不能少"],
    "b/c.jsonl": [FOX + ".", "", None, "数据去重的文档,每一句都要比较,一个字也不能少!", "🂡 a card 🂢 and another", FOX.upper()],
    "b/d.jsonl": ["короткий", "x" * 400, "x" * 401, None, FOX + " again and again"],
}


def golden():
    cases = []
    for wide, nparts, per, files in ((False, 1, 2, 1), (True, 3, 4, 2)):
        with tempfile.TemporaryDirectory() as dir:
            for name, texts in GOLDEN.items():
                path = os.path.join(dir, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as f:
                    f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
            params = {"text_field": "text", "seed": 42, "char_ngrams": 24, "num_bands": 4, "minhashes_per_band": 3,
                      "use_64bit_hash": wide, "total_nparts": nparts, "bands_per_iteration": per, "components_files": files,
                      "exact_nparts": 2, "input_blocksize": 1000}
            job = Job({**params, "input": dir, "cache": "cache"}).run()
            names = {}  # what a path decides is replaced
            for paths in groups(job.paths, 1000):
                names[f"MinHashStage/0_{group_id(paths)}.parquet"] = \
                    "MinHashStage/" + ",".join(os.path.relpath(p, dir) for p in paths)
            tables = {}
            for name, t in {**job.cache, **job.out}.items():
                if isinstance(t, dict):
                    continue
                name = names.get(name, re.sub(r"(ConnectedComponentsStage/0_\d+)_.*", r"\1", name))
                tables[name] = {f: t.column(f).to_pylist() for f in t.schema.names}
            cases.append({"params": params, "tables": tables})
    json.dump({"corpus": GOLDEN, "cases": cases}, sys.stdout, ensure_ascii=True, indent=None, separators=(",", ":"))
    print()


if __name__ == "__main__":
    np.seterr(over="ignore")
    if sys.argv[1] == "check":
        for job in json.load(open(sys.argv[2])):
            try:
                make(job["config"], job["reference"])
                compare(job["ours"], job["reference"])
            except AssertionError:
                print("not as it should be:", json.dumps(job))
                raise
    else:
        golden()
