"""Makes tables with pyarrow, and compares what a shuffle made of them:

python verify.py make FOLDER
python verify.py check FOLDER OUTPUT
"""
import datetime, decimal, glob, os, random, sys

import duckdb, pyarrow as pa, pyarrow.parquet as pq


def make(folder):
    os.makedirs(folder)
    rng = random.Random(7)
    word = lambda: "".join(rng.choice("abcé ") for _ in range(rng.randrange(20)))
    maybe = lambda f: None if rng.random() < 0.2 else f()
    day = datetime.date(2024, 2, 29)
    for i in range(3):
        n = [400, 0, 250][i]
        col = lambda t, f: pa.array([maybe(f) for _ in range(n)], t)
        t = pa.table({
            "k": col(pa.int64(), lambda: rng.randrange(50)),
            "s": col(pa.string(), word),
            "large": col(pa.large_string(), word),
            "view": col(pa.string_view(), word),
            "bin": col(pa.binary(), lambda: rng.randbytes(rng.randrange(9))),
            "fix": col(pa.binary(4), lambda: rng.randbytes(4)),
            "dict": col(pa.string(), lambda: rng.choice("xyz")).dictionary_encode(),
            "dec": col(pa.decimal128(20, 3), lambda: decimal.Decimal(rng.randrange(-10**9, 10**9)) / 1000),
            "half": col(pa.float32(), rng.random).cast(pa.float16()),
            "double": col(pa.float64(), lambda: rng.choice([0.0, -0.0, float("nan"), 1e300])),
            "date": col(pa.date32(), lambda: day), "time": col(pa.time64("us"), lambda: datetime.time(1, 2, rng.randrange(60))),
            "ts": col(pa.timestamp("us", "Europe/Paris"), lambda: datetime.datetime(2024, 1, 1 + rng.randrange(28), tzinfo=datetime.timezone.utc)),
            "dur": col(pa.duration("ms"), lambda: datetime.timedelta(seconds=rng.randrange(99))),
            "list": col(pa.list_(pa.int16()), lambda: [maybe(lambda: 5) for _ in range(rng.randrange(4))]),
            "vec": col(pa.list_(pa.float32(), 3), lambda: [rng.random()] * 3),
            "deep": col(pa.struct([("a", pa.list_(pa.struct([("x", pa.string())]))), ("v", pa.list_(pa.int8(), 2))]),
                        lambda: {"a": maybe(lambda: [{"x": maybe(word)}] * rng.randrange(3)), "v": maybe(lambda: [1, 2])}),
            "map": col(pa.map_(pa.string(), pa.int32()), lambda: [(str(k), maybe(lambda: k)) for k in range(rng.randrange(3))]),
            "none": pa.nulls(n), "u32": col(pa.uint32(), lambda: 2**32 - 1),
        })
        pq.write_table(t, os.path.join(folder, f"{i}.parquet"), row_group_size=90, compression=["snappy", "zstd", "gzip"][i])


def check(folder, output):
    tables = [pq.read_table(f) for f in sorted(glob.glob(folder + "/*.parquet"))]
    schema = tables[0].schema
    rows = [repr(r) for t in tables for r in t.to_pylist()]  # repr, because NaN is not equal to itself
    parts = sorted(glob.glob(output + "/part.*.parquet"), key=lambda p: int(p.split(".")[-2]))
    got = []
    for p in parts:
        t = pq.read_table(p)
        for f in schema:  # Parquet has no views, and what the library makes of them is a string
            want = pa.string() if f.type == pa.string_view() else f.type
            assert t.schema.field(f.name).type in (want, f.type), (p, f, t.schema.field(f.name))
        mine = [repr(r) for r in t.to_pylist()]
        assert duckdb.sql(f"select count(*), count(k) from '{p}'").fetchall()[0] == (t.num_rows, t.num_rows - t.column("k").null_count), p
        # In the order of the input: walking through it, the rows come one after another.
        walk = iter(rows)
        assert all(any(r == m for r in walk) for m in mine), p
        got += mine
    assert sorted(got) == sorted(rows), (len(got), len(rows))
    print(len(parts), "files hold all", len(rows), "rows")


{"make": make, "check": check}[sys.argv[1]](*sys.argv[2:])
