"""Which rows a rival kept, one source on each line of OUTPUT/kept.txt: for those that write neither ids nor sources to Parquet.

Called as kept.py OUTPUT FORMAT, after the rival's run was timed. FORMAT is datatrove (Parquet, where id is the source) or
datasets (a data set saved by the library of that name).
"""
import glob
import sys

out, form = sys.argv[1:3]
if form == "datatrove":
    import pyarrow.parquet as pq
    sources = [s for f in glob.glob(f"{out}/kept/*.parquet") for s in pq.read_table(f, columns=["id"])["id"].to_pylist()]
else:
    from datasets import load_from_disk
    sources = load_from_disk(f"{out}/kept")["source"]
with open(f"{out}/kept.txt", "w") as f:
    f.writelines(s + "\n" for s in sources)
