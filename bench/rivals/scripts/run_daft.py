"""Daft: its minhash expression over runs of 5 words (between single blanks: other white space is part of a word)."""
import daft
import numpy as np

from common import HASHES, arguments, bucket_edges, done, first_of_each_cluster, write_kept

folder, out, _ = arguments()
signature = daft.col("text").minhash(num_hashes=HASHES, ngram_size=5, seed=42, hash_function="xxhash3_64")
table = daft.read_parquet(f"{folder}/*.parquet").select(daft.col("id"), signature.alias("signature")).to_arrow()
column = table["signature"].combine_chunks()
values = column.storage if hasattr(column, "storage") else column
signatures = np.asarray(values.flatten()).reshape(-1, HASHES)[np.argsort(table["id"].to_numpy())]
write_kept(folder, out, first_of_each_cluster(len(signatures), *bucket_edges(signatures)))
done("daft")
