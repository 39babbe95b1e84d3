"""Makes tests/golden/parquet: the same rows in Parquet files of several kinds, and as JSON.

    python3 make_parquet.py        needs pyarrow
"""

import decimal
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).parent / "parquet"
TEXTS = ["", "one", "zwei Wörter", "三", "a longer text with \"quotes\"\nand lines"]
SCHEMA = pa.schema([
    pa.field("id", pa.int64(), nullable=False), ("small", pa.int32()), ("text", pa.string()), ("flag", pa.bool_()),
    ("real", pa.float64()), ("single", pa.float32()), ("list", pa.list_(pa.string())),
    ("nested", pa.list_(pa.list_(pa.int32()))),
    ("choices", pa.struct([("text", pa.list_(pa.string())), ("label", pa.list_(pa.string()))])),
    ("structs", pa.list_(pa.struct([("name", pa.string()), ("value", pa.int64())]))),
])


def row(i):
    """Row i: absent values and empty lists come in every column, at other places."""
    def at_times(period, value):
        return None if i % period == period - 1 else value
    words = [at_times(5, TEXTS[(i + j) % len(TEXTS)]) for j in range(i % 4)]
    return {
        "id": i * 10**11, "small": at_times(3, -i), "text": at_times(7, TEXTS[i % len(TEXTS)]), "flag": at_times(4, i % 3 == 0),
        "real": at_times(6, i / 8), "single": at_times(5, i * 0.25), "list": at_times(6, words),
        "nested": at_times(5, [at_times(4, list(range(j))) for j in range(i % 3)]),
        "choices": at_times(8, {"text": words, "label": at_times(3, list("ABCD"[:i % 5]))}),
        "structs": at_times(9, [at_times(5, {"name": word, "value": at_times(2, j)}) for j, word in enumerate(words)]),
    }


def main():
    FOLDER.mkdir(exist_ok=True)
    rows = [row(i) for i in range(40)]
    (FOLDER / "rows.json").write_text(json.dumps(rows, ensure_ascii=False))
    table = pa.Table.from_pylist(rows, SCHEMA)
    for name, options in {
            "snappy": {}, "plain": {"compression": "none", "use_dictionary": False},
            "zstd-v2": {"compression": "zstd", "data_page_version": "2.0", "row_group_size": 13},
            "gzip-pages": {"compression": "gzip", "data_page_size": 64, "write_batch_size": 4}}.items():
        pq.write_table(table, FOLDER / f"{name}.parquet", **options)
    # Columns without a value, numbers without a sign, and types that are left out, alone and in lists and structs.
    pq.write_table(pa.table({
        "none": pa.array([None, None], pa.string()), "empty": pa.array([[], []], pa.list_(pa.string())),
        "u32": pa.array([0, 2**32 - 1], pa.uint32()), "u64": pa.array([7, 2**64 - 1], pa.uint64()),
        "day": pa.array([1, 2], pa.date32()), "time": pa.array([1, 2], pa.timestamp("us")),
        "price": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(9, 2)),
        "days": pa.array([[1, 2], None], pa.list_(pa.date32())),
        "weeks": pa.array([[[1], []], [None]], pa.list_(pa.list_(pa.date32()))),
        "span": pa.array([{"from": 1, "name": "a"}, None], pa.struct([("from", pa.date32()), ("name", pa.string())])),
        "moment": pa.array([{"at": 1}, {"at": None}], pa.struct([("at", pa.date32())])), "last": pa.array(["x", "y"])}),
        FOLDER / "types.parquet", compression="gzip")


if __name__ == "__main__":
    main()
