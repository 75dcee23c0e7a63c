"""Compares fixtures to which columns were added with the originals: python verify_added.py FOLDER"""
import os, sys

import duckdb, pyarrow.parquet as pq

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "parquet")
NEW = {"new_bool": "bool", "new_int": "int64", "new_uint": "uint64", "new_double": "double", "new_fixed": "fixed_size_binary[3]"}
count = 0
for name in sorted(os.listdir(sys.argv[1])):
    path = os.path.join(sys.argv[1], name)
    a, b = pq.read_table(os.path.join(here, name)), pq.read_table(path)
    for f in a.schema:
        assert b.schema.field(f.name).equals(f, check_metadata=True), (name, f, b.schema.field(f.name))
    for f, t in NEW.items():
        assert str(b.schema.field(f).type) == t, (name, b.schema.field(f))
    assert repr(a.to_pylist()) == repr(b.select(a.schema.names).to_pylist()), name
    assert b.column("new_int").to_pylist() == [-r << 40 for r in range(a.num_rows)], name
    assert b.column("new_double").to_pylist() == [None if r % 3 == 0 else r / 7 for r in range(a.num_rows)], name
    n = duckdb.sql(f"select count(*), count(new_double) from '{path}'").fetchall()[0]
    assert n == (a.num_rows, sum(r % 3 != 0 for r in range(a.num_rows))), (name, n)
    count += 1
print(count, "files are as they should be")
