"""Load every configuration of committed data sets with Hugging Face's datasets, with pyarrow and with DuckDB.

usage: load.py STORE SET...

Each set's newest version is read, every value of every column: rows, splits and columns must be the same for all
readers and the rows those of the manifest, pictures must decode, and the splits of one set must have no picture in
common.
"""

import hashlib
import json
import os
import sys

import duckdb
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
        tables = [pq.read_table(p) for p in paths]
        arrow = sum(t.num_rows for t in tables)
        data = load_dataset("parquet", data_files={split: paths}, split=split)
        duck = duckdb.sql("SELECT * FROM read_parquet($1)", params=[paths])
        columns = data.column_names
        if not columns == tables[0].column_names == duck.columns:
            sys.exit(f"{name}/{config}/{split}: columns {columns} for datasets, {tables[0].column_names} for pyarrow, {duck.columns} for DuckDB")
        ducks = duck.fetchall()
        if not rows[config, split] == arrow == len(data) == len(ducks):
            sys.exit(f"{name}/{config}/{split}: {rows[config, split]} rows in the manifest, {arrow} for pyarrow, {len(data)} for datasets, {len(ducks)} for DuckDB")
        images = 0
        for row in data:
            if set(row) != set(columns):
                sys.exit(f"{name}/{config}/{split}: a row has the columns {sorted(row)}")
            if "images" in row:
                if len(row["images"]) != 2:
                    sys.exit(f"{name}/{config}/{split}: row {row['id']} has {len(row['images'])} pictures")
                for image in row["images"]:
                    image.load()
                    digest = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
                    pictures.setdefault((config, digest), set()).add(split)
                    images += 1
        print(f"{name}/{config}/{split}: {len(data)} rows, {len(columns)} columns, {images} pictures")
    both = [k for k, splits in pictures.items() if len(splits) > 1]
    if both:
        sys.exit(f"{name}: {len(both)} pictures are in several splits")


for set_name in sys.argv[2:]:
    check(sys.argv[1], set_name)
