"""datatrove: its four stages on a local executor with a worker for each core, runs of 5 words as its tokenizer makes them.

tokenizer=spaces  WhitespaceTokenizer, the faster one here
tokenizer=english the one of its example, spaCy's
"""
import os

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import WhitespaceTokenizer

from common import BANDS, ROWS, arguments, done, files

if __name__ == "__main__":
    folder, out, options = arguments()
    config = MinhashConfig(n_grams=5, num_buckets=BANDS, hashes_per_bucket=ROWS, hash_config=HashConfig(precision=64))
    language = WhitespaceTokenizer() if options.get("tokenizer", "spaces") == "spaces" else Languages.english__latn
    tasks = len(files(folder))

    def run(tasks, *pipeline):
        log = f"{out}/log-{pipeline[0].__class__.__name__}-{len(pipeline)}"
        LocalPipelineExecutor(pipeline=list(pipeline), tasks=tasks, workers=os.cpu_count(), logging_dir=log).run()

    def reader():
        # An integer id of 0 would be dropped, so the source serves as id.
        return ParquetReader(folder, text_key="text", id_key="source")

    run(tasks, reader(), MinhashDedupSignature(output_folder=f"{out}/signatures", config=config, language=language))
    run(BANDS, MinhashDedupBuckets(input_folder=f"{out}/signatures", output_folder=f"{out}/buckets", config=config))
    run(1, MinhashDedupCluster(input_folder=f"{out}/buckets", output_folder=f"{out}/remove", config=config))
    run(tasks, reader(), MinhashDedupFilter(input_folder=f"{out}/remove"), ParquetWriter(f"{out}/kept", compression="zstd"))
    done("datatrove", kept_column="id", kept_is="source")
