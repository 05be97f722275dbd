"""Load every configuration of committed data sets with Hugging Face's datasets and with pyarrow.

usage: load.py STORE SET...

Each set's newest version is read: rows, splits and columns must be those that its manifest has, pictures must
decode, and the splits of one set must have no picture in common.
"""

import hashlib
import json
import os
import sys

import pyarrow.parquet as pq
from datasets import load_dataset


def newest(store, name):
    with open(os.path.join(store, name, "LATEST")) as f:
        version = json.load(f)
    with open(os.path.join(store, version["manifest"])) as f:
        return json.load(f)


def check(store, name):
    manifest = newest(store, name)
    files = {}
    rows = {}
    for shard in manifest["shards"]:
        key = shard["config"], shard["split"]
        files.setdefault(key, []).append(os.path.join(store, shard["object"]))
        rows[key] = rows.get(key, 0) + shard["rows"]
    pictures = {}
    for (config, split), paths in sorted(files.items()):
        arrow = sum(pq.read_table(p).num_rows for p in paths)
        data = load_dataset("parquet", data_files={split: paths}, split=split)
        if not rows[config, split] == arrow == len(data):
            sys.exit(f"{name}/{config}/{split}: {rows[config, split]} rows in the manifest, {arrow} for pyarrow, {len(data)} for datasets")
        images = 0
        if "images" in data.column_names:
            for row in data:
                if len(row["images"]) != 2:
                    sys.exit(f"{name}/{config}/{split}: row {row['id']} has {len(row['images'])} pictures")
                for image in row["images"]:
                    image.load()
                    digest = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
                    pictures.setdefault((config, digest), set()).add(split)
                    images += 1
        print(f"{name}/{config}/{split}: {len(data)} rows, {images} pictures")
    both = [k for k, splits in pictures.items() if len(splits) > 1]
    if both:
        sys.exit(f"{name}: {len(both)} pictures are in several splits")


for set_name in sys.argv[2:]:
    check(sys.argv[1], set_name)
