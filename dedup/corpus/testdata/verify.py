"""Compares rewritten fixtures with what pyarrow makes of the originals: python verify.py FOLDER

FOLDER/<how>/<name>.parquet is fixture <name> with the rows of keepers[how] in rewrite_test.go.
"""
import os, sys

import duckdb, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq

KEEP = {
    "all": lambda r: True, "none": lambda r: False, "odd": lambda r: r % 2 == 1, "first": lambda r: r == 0,
    "last": lambda r: r == 39, "group": lambda r: 16 <= r < 32, "some": lambda r: r % 7 == 3 or r > 30,
}
here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "parquet")
count = 0
for how in sorted(os.listdir(sys.argv[1])):
    for name in sorted(os.listdir(os.path.join(sys.argv[1], how))):
        path = os.path.join(sys.argv[1], how, name)
        a, b = pq.read_table(os.path.join(here, name)), pq.read_table(path)
        assert a.schema.equals(b.schema, check_metadata=True), (how, name, a.schema, b.schema)
        rows = [r for r in range(a.num_rows) if KEEP[how](r)]
        # repr, because NaN is not equal to itself
        assert repr([x for r, x in enumerate(a.to_pylist()) if r in rows]) == repr(b.to_pylist()), (how, name)
        pa_, pb = pq.ParquetFile(os.path.join(here, name)), pq.ParquetFile(path)
        assert str(pa_.schema) == str(pb.schema).replace(repr(pb.schema).split("\n")[0], repr(pa_.schema).split("\n")[0]), (how, name)
        if b.num_rows:
            x, y = pa_.metadata.row_group(0), pb.metadata.row_group(0)
            for c in range(x.num_columns):
                assert x.column(c).compression == y.column(c).compression, (how, name, c)
        n = duckdb.sql(f"select count(*), count(text) from '{path}'").fetchall()[0]
        assert n == (len(rows), len(rows) - b.column("text").null_count), (how, name, n)
        count += 1
print(count, "files are as they should be")
