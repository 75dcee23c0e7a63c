"""DuckDB: MinHash of runs of 5 words in plain SQL, since it has none: hash(h, i) instead of permutations.

Runs of words are made by zipping a list with itself, shifted: a lambda that captures the list would copy it for each word.
"""
import os

import duckdb
import numpy as np

from common import BANDS, HASHES, ROWS, arguments, done, first_of_each_cluster, write_kept

folder, out, _ = arguments()
db = duckdb.connect(f"{out}/duck.db")
db.execute(f"SET threads={os.cpu_count()}")
db.execute(f"SET temp_directory='{out}/temp'")
db.execute("SET preserve_insertion_order=false")
db.execute(f"""
    CREATE TABLE tokens AS
    SELECT id, unnest(CASE WHEN len(w) < 5 THEN [hash(array_to_string(w, ' '))]
        ELSE list_distinct(list_transform(list_zip(w, w[2:], w[3:], w[4:], w[5:], true), lambda x: hash(x))) END) AS h
    FROM (SELECT id, string_split_regex(trim(text), '\\s+') AS w FROM read_parquet('{folder}/*.parquet'))""")
minima = ", ".join(f"min(hash(h, {i}::UBIGINT)) AS m{i}" for i in range(HASHES))
db.execute(f"CREATE TABLE signatures AS SELECT id, {minima} FROM tokens GROUP BY id")
bands = " UNION ALL ".join(
    f"SELECT {b} AS band, hash({', '.join(f'm{i}' for i in range(b * ROWS, (b + 1) * ROWS))}) AS k, id FROM signatures"
    for b in range(BANDS))
edges = db.execute(f"SELECT first_value(id) OVER (PARTITION BY band, k ORDER BY id) AS a, id AS b FROM ({bands})").fetchnumpy()
n = db.execute(f"SELECT count(*) FROM read_parquet('{folder}/*.parquet')").fetchone()[0]
keep = first_of_each_cluster(n, np.asarray(edges["a"], np.int64), np.asarray(edges["b"], np.int64))
write_kept(folder, out, keep)
done("duckdb")
