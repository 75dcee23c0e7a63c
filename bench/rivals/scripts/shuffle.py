"""Hash partitioning of a table into files, Parquet in and out, uncompressed: tool=duckdb, polars, pyarrow or daft.

Called as shuffle.py INPUT OUTPUT tool=T parts=N. INPUT has the columns key, a, b, s; the partition is decided by key.
"""
import os

from common import arguments, done, files

folder, out, options = arguments()
tool, parts, target = options["tool"], int(options["parts"]), f"{out}/parts"
if tool == "duckdb":
    import duckdb
    db = duckdb.connect()
    db.execute(f"SET threads={os.cpu_count()}; SET preserve_insertion_order=false; SET partitioned_write_max_open_files={parts + 44}")
    db.execute(f"""COPY (SELECT *, (hash(key) % {parts})::INTEGER AS p FROM read_parquet('{folder}/*.parquet'))
        TO '{target}' (FORMAT parquet, PARTITION_BY (p), COMPRESSION uncompressed)""")
elif tool == "polars":
    import polars as pl
    os.makedirs(target)
    rows = pl.scan_parquet(f"{folder}/*.parquet").with_columns((pl.col("key").hash(seed=0) % parts).cast(pl.Int32).alias("p"))
    rows.sink_parquet(pl.PartitionBy(target, key="p", include_key=False), compression="uncompressed", mkdir=True)
elif tool == "pyarrow":
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    pa.set_cpu_count(os.cpu_count())
    rows = ds.dataset(files(folder), format="parquet")
    columns = {name: ds.field(name) for name in rows.schema.names}
    # Arrow's compute functions have no hash; the keys are random, so their low bits serve.
    columns["p"] = pc.bit_wise_and(pc.field("key"), pc.scalar(parts - 1)).cast(pa.int16())
    parquet = ds.ParquetFileFormat()
    ds.write_dataset(rows.scanner(columns=columns), target, format=parquet, max_open_files=parts + 44, max_partitions=parts,
                     partitioning=ds.partitioning(pa.schema([("p", pa.int16())]), flavor="hive"), max_rows_per_group=1 << 17,
                     min_rows_per_group=1 << 14, file_options=parquet.make_write_options(compression="none"))
else:
    import daft
    # repartition does nothing on the local runner; the partitioned writer is what works.
    rows = daft.read_parquet(f"{folder}/*.parquet").with_column("p", daft.col("key").hash() % parts)
    rows.write_parquet(target, compression="none", partition_cols=["p"])
done(tool, files=sum(len(names) for _, _, names in os.walk(target)))
