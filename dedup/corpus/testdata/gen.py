"""Writes the Parquet fixtures below parquet/ and what a reader must find in them, expected.json.

    python3 -m venv venv && venv/bin/pip install pyarrow==26.0.1 duckdb==2.0.0 && venv/bin/python gen.py

The tests need none of this: files and expectations are committed.
"""
import base64, datetime, decimal, json, math, os

import duckdb, pyarrow as pa, pyarrow.parquet as pq

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "parquet")
os.makedirs(OUT, exist_ok=True)
N = 40
WORDS = "the cat sat on a mat while größere Hunde 漢字 читали книгу 🙂 and left".split()


def text(i):
    if i % 9 == 4:
        return None
    if i % 11 == 5:
        return ""
    n = 120 if i == 17 else 3 + i % 7
    return " ".join(WORDS[(i * 7 + k * 3) % len(WORDS)] for k in range(n))


TEXT = [text(i) for i in range(N)]
SCORE = [None if i % 8 == 3 else float("nan") if i == 12 else float("-inf") if i == 13 else (i * 37 % 23) - 11.25 for i in range(N)]
ID = [1000 + i * 3 for i in range(N)]
D = decimal.Decimal
UTC = datetime.timezone.utc


def opt(i, v):
    return None if i % 5 == 2 else v


def wide():
    """One column of every kind; all but the first three only have to survive a rewriting."""
    r = range(N)
    t0 = datetime.datetime(2024, 1, 1)
    cols = [
        ("text", pa.array(TEXT)),
        ("id", pa.array(ID, pa.int64())),
        ("score", pa.array(SCORE, pa.float64())),
        ("i8", pa.array([opt(i, i - 20) for i in r], pa.int8())),
        ("u16", pa.array([i for i in r], pa.uint16())),
        ("u64", pa.array([opt(i, 2**64 - 1 - i) for i in r], pa.uint64())),
        ("f16", pa.array([opt(i, i / 2) for i in r], pa.float16())),
        ("f32", pa.array([opt(i, i / 3) for i in r], pa.float32())),
        ("flag", pa.array([opt(i, i % 3 == 0) for i in r])),
        ("date", pa.array([opt(i, datetime.date(2020, 1, 1 + i % 28)) for i in r])),
        ("ts_ms", pa.array([opt(i, t0 + datetime.timedelta(hours=i)) for i in r], pa.timestamp("ms"))),
        ("ts_us", pa.array([opt(i, t0 + datetime.timedelta(hours=i)) for i in r], pa.timestamp("us", tz="Europe/Berlin"))),
        ("ts_ns", pa.array([opt(i, t0 + datetime.timedelta(hours=i)) for i in r], pa.timestamp("ns"))),
        ("time", pa.array([opt(i, datetime.time(i % 24, 5)) for i in r], pa.time64("us"))),
        ("dur", pa.array([opt(i, datetime.timedelta(seconds=i)) for i in r], pa.duration("ms"))),
        ("dec", pa.array([opt(i, D(i * 7 - 90) / 4) for i in r], pa.decimal128(9, 2))),
        ("dec38", pa.array([opt(i, D(10) ** 20 * (i - 20)) for i in r], pa.decimal128(38, 3))),
        ("bin", pa.array([opt(i, bytes([i, 0, 255])) for i in r], pa.binary())),
        ("fsb", pa.array([opt(i, bytes([i, 1, 2])) for i in r], pa.binary(3))),
        ("cat", pa.array([opt(i, "abc"[i % 3]) for i in r]).dictionary_encode()),
        ("large", pa.array([opt(i, "L%d" % i) for i in r], pa.large_string())),
        ("view", pa.array([opt(i, "view of row %d" % i) for i in r], pa.string_view())),
        ("none", pa.array([None] * N, pa.null())),
        ("tags", pa.array([opt(i, ["t%d" % k if k % 3 else None for k in range(i % 4)]) for i in r], pa.list_(pa.string()))),
        ("fixed", pa.array([opt(i, [i, None, i + 1]) for i in r], pa.list_(pa.int32(), 3))),
        ("meta", pa.array([opt(i, {"text": None if i % 4 == 1 else "meta %d" % i, "n": i}) for i in r],
                          pa.struct([("text", pa.string()), ("n", pa.int32())]))),
        ("kv", pa.array([opt(i, [("k%d" % k, k * i) for k in range(i % 3)]) for i in r], pa.map_(pa.string(), pa.int64()))),
        ("deep", pa.array([opt(i, [{"a": list(range(k)), "b": {"c": [[k], [], None]}} for k in range(i % 3)]) for i in r],
                          pa.list_(pa.struct([("a", pa.list_(pa.int16())), ("b", pa.struct([("c", pa.list_(pa.list_(pa.int64())))]))])))),
    ]
    fields = [pa.field(n, a.type, nullable=n not in ("id", "u16"), metadata={"note": "column " + n}) for n, a in cols]
    schema = pa.schema(fields, metadata={"pandas": '{"index_columns": []}', "owner": "corpus tests"})
    return pa.table([a for _, a in cols], schema=schema)


def narrow(text_type=pa.string(), **more):
    t = TEXT
    if pa.types.is_dictionary(text_type):
        col = pa.array(t).dictionary_encode()
    elif pa.types.is_binary(text_type):
        col = pa.array([None if s is None else s.encode() for s in t], text_type)
    else:
        col = pa.array(t, text_type)
    cols = {"text": col, "id": pa.array(ID, pa.int64()), "score": pa.array(SCORE, pa.float64())}
    cols.update(more)
    return pa.table(cols)


EXPECTED = {}


def number(v):
    if v is None or isinstance(v, float) and math.isnan(v):
        return None
    if v in (float("inf"), float("-inf")):
        return repr(v)
    return v


def note(name, text=TEXT, score=SCORE):
    path = os.path.join(OUT, name)
    pf = pq.ParquetFile(path)
    EXPECTED[name] = dict(
        rows=pf.metadata.num_rows, groups=pf.metadata.num_row_groups, columns=pf.metadata.num_columns,
        arrow_schema=pf.schema_arrow.to_string(show_field_metadata=False, show_schema_metadata=False),
        codec=pf.metadata.row_group(0).column(0).compression, encodings=list(pf.metadata.row_group(0).column(0).encodings),
        **{k: v for k, v, common in [("text", text, TEXT), ("score", [number(v) for v in score], [number(v) for v in SCORE])] if v != common})


def write(name, table, **kw):
    kw.setdefault("row_group_size", 16)
    kw.setdefault("compression", "none")
    pq.write_table(table, os.path.join(OUT, name), **kw)
    note(name)


W = wide()
write("wide_none.parquet", W)
write("wide_lz4.parquet", W, compression="lz4")
write("wide_v2.parquet", W, compression="zstd", data_page_version="2.0", write_page_index=True)
write("wide_pages.parquet", W, compression="snappy", data_page_size=64, write_batch_size=3)

for version in ["1.0", "2.0"]:
    v = "_v" + version[0]
    for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
        write("plain_%s%s.parquet" % (codec, v), narrow(), compression=codec, use_dictionary=False, data_page_version=version)
        write("dict_%s%s.parquet" % (codec, v), narrow(), compression=codec, data_page_version=version)
    for enc in ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"]:
        write("%s%s.parquet" % (enc.lower(), v), narrow(), compression="zstd", use_dictionary=False, data_page_version=version,
              column_encoding={"text": enc, "id": "DELTA_BINARY_PACKED", "score": "BYTE_STREAM_SPLIT"})
    # A dictionary that grows too large half way: the pages after it are plain.
    write("fallback%s.parquet" % v, narrow(), data_page_version=version, dictionary_pagesize_limit=300,
          data_page_size=100, write_batch_size=4, row_group_size=40)
for name, t in [("string", pa.string()), ("large_string", pa.large_string()), ("string_view", pa.string_view()), ("binary", pa.binary()),
                ("large_binary", pa.large_binary()), ("dictionary", pa.dictionary(pa.int32(), pa.string()))]:
    write("text_%s.parquet" % name, narrow(t), compression="snappy")

# A text that is never null, as a required column.
t = narrow().set_column(0, pa.field("text", pa.string(), nullable=False), pa.array([s or "" for s in TEXT]))
pq.write_table(t, os.path.join(OUT, "required.parquet"), row_group_size=16)
note("required.parquet", text=[s or "" for s in TEXT])
# All texts null, as Arrow's null type.
pq.write_table(narrow().set_column(0, "text", pa.nulls(N)), os.path.join(OUT, "all_null.parquet"), row_group_size=16)
note("all_null.parquet", text=[None] * N)
# No rows, and no row groups.
pq.write_table(narrow().slice(0, 0), os.path.join(OUT, "empty.parquet"))
EXPECTED["empty.parquet"] = dict(rows=0, groups=0, columns=3, codec="", encodings=[],
                                 arrow_schema=pq.ParquetFile(os.path.join(OUT, "empty.parquet")).schema_arrow.to_string())
# Old timestamps.
t = pa.table({"text": TEXT, "id": ID, "score": pa.array([None if v is None or v != v or v < -1e9 else datetime.datetime(2020, 1, 1) +
                                                         datetime.timedelta(seconds=v) for v in SCORE], pa.timestamp("ns"))})
pq.write_table(t, os.path.join(OUT, "int96.parquet"), use_deprecated_int96_timestamps=True)
note("int96.parquet", score=[None if v is None or v != v or v < -1e9 else 1577836800e6 + v * 1e6 for v in SCORE])

con = duckdb.connect()
con.register("narrow", narrow())
for name, options in [("duckdb_v1_snappy", "parquet_version v1, compression snappy"), ("duckdb_v1_none", "parquet_version v1, compression uncompressed"),
                      ("duckdb_v1_gzip", "parquet_version v1, compression gzip"), ("duckdb_v1_lz4", "parquet_version v1, compression lz4_raw"),
                      ("duckdb_v1_brotli", "parquet_version v1, compression brotli"), ("duckdb_v2_zstd", "parquet_version v2, compression zstd"),
                      ("duckdb_v2_snappy", "parquet_version v2, compression snappy")]:
    path = os.path.join(OUT, name + ".parquet")
    con.execute(f"copy (select text, id, score from narrow) to '{path}' (format parquet, {options})")
    note(name + ".parquet")

# Pages with checksums, of the same rows.
SUMS = os.path.join(HERE, "sums")
os.makedirs(SUMS, exist_ok=True)
for codec, version, plain in [("none", "1.0", True), ("snappy", "1.0", False), ("zstd", "2.0", True), ("gzip", "1.0", True), ("lz4", "2.0", False)]:
    pq.write_table(narrow(), os.path.join(SUMS, codec + ".parquet"), row_group_size=16, compression=codec, use_dictionary=not plain,
                   data_page_version=version, data_page_size=200, write_batch_size=4, write_page_checksum=True)

with open(os.path.join(HERE, "expected.json"), "w") as f:
    json.dump(dict(text=TEXT, score=[number(v) for v in SCORE], ids=ID, files=EXPECTED), f, ensure_ascii=False, indent=0, sort_keys=True)
