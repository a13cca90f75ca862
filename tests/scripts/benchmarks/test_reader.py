"""The reader's benchmarks measure what their rows say; here with less than they read in earnest."""

import numpy as np

from input.manifest import load_index
from scripts.benchmarks import reader as benchmarks
from scripts.benchmarks.config import BenchmarkConfig

ONCE = BenchmarkConfig(rounds=1)


def test_each_order_of_reading_is_measured(monkeypatch):
    monkeypatch.setattr(benchmarks, "RECORD_BYTES", 1_000)
    monkeypatch.setattr(benchmarks, "RECORDS_PER_ROUND", 320)
    found = benchmarks.records_per_second(ONCE)
    assert [(row.first, row.second) for row in found] == [
        ("random order", "in order"),
        ("random order", "read_block 16"),
        ("random order", "graph reader"),
    ]
    assert all(row.first_rate > 0 and row.second_rate > 0 for row in found)


def test_a_late_start_is_measured_against_a_new_one():
    (row,) = benchmarks.start_of_a_run(ONCE)
    assert (row.first, row.second) == ("step 10**9", "step 0")
    assert row.first_rate > 0 and row.second_rate > 0


def test_the_index_and_the_order_are_weighed(monkeypatch):
    def smaller(folder, shards, records, original=benchmarks._synthetic):
        return original(folder, shards, records // 1000)

    monkeypatch.setattr(benchmarks, "_synthetic", smaller)
    *indexes, order = benchmarks.index_and_order(ONCE)
    assert [cost.records for cost in indexes] == [10, 1_000, 100_000]
    for cost in indexes:
        # An offset of 8 bytes and a length of 4 for each record, a few bytes for each shard.
        assert 12 <= cost.bytes_per_record < 15
        assert len(cost.cells()) == len(cost.columns)
    assert order.cells()[:3] == ("10,000,000,000", "1,024", "65,536")
    assert len(order.cells()) == len(order.columns)
    assert order.milliseconds > 0


def test_the_shards_without_content_are_equal(tmp_path):
    manifest = benchmarks._synthetic(tmp_path / "records", shards=3, records=5)
    assert (manifest.records, len(manifest.shards)) == (15, 3)
    shards, offsets, lengths = load_index(manifest).locate(np.arange(15))
    assert shards.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert offsets.tolist() == [benchmarks.RECORD_BYTES * n for n in range(5)] * 3
    assert set(lengths.tolist()) == {benchmarks.RECORD_BYTES}


def test_the_graph_reader_reads_the_records_that_were_asked_for(tmp_path):
    content = [b"\xff\xd8\xff" + bytes([i]) * 100 for i in range(64)]
    reader = benchmarks.RecordReader(benchmarks.write_records(tmp_path / "records", content))
    numbers = np.arange(64)[::-1]
    records = np.concatenate(
        list(benchmarks._graph_reader(reader, numbers).take(2).as_numpy_iterator())
    )
    expected = reader.read(numbers).images
    assert all(image in record for image, record in zip(expected, records, strict=True))
