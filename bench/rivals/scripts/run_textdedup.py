"""text-dedup: its MinHash command with a process for each core, runs of 5 words (lower case, split where \\W is).

Pairs within a cluster are compared exactly (check_false_positive): without it, version 0.4.1 removes nearly all documents of a
cluster, the first too, because the numbers of its clusters are not those of documents.
"""
import os
import runpy
import sys

from common import BANDS, HASHES, ROWS, THRESHOLD, arguments, done

folder, out, _ = arguments()
folder = os.path.abspath(folder)
os.chdir(out)
with open("config.toml", "w") as f:
    f.write(f"""
[input]
input_type = "local_files"
file_type = "parquet"
[input.read_arguments]
path = "parquet"
data_files = "{folder}/*.parquet"
split = "train"
[algorithm]
algorithm_name = "minhash"
text_column = "text"
num_proc = {os.cpu_count()}
num_perm = {HASHES}
bands = {BANDS}
rows = {ROWS}
threshold = {THRESHOLD}
ngram_size = 5
hash_func_name = "xxh3"
hash_bits = 64
min_length = 0
check_false_positive = true
[output]
output_dir = "kept"
save_clusters = false
clean_cache = false
[debug]
enable_profiling = false
""")
sys.argv = ["text_dedup.minhash"]
try:
    runpy.run_module("text_dedup.minhash", run_name="__main__", alter_sys=True)
except SystemExit as end:
    if end.code:
        raise
done("text-dedup")
