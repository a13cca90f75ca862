"""Benchmarks run, their arithmetic is right, and their page says where they were made."""

import json

import numpy as np
import pytest
from PIL import Image

from input.errors import InputError
from scripts import benchmark
from scripts.benchmarks.input import INPUT_BENCHMARKS
from scripts.benchmarks.step import compare, race
from trainer.config import BenchmarkConfig


def test_a_race_takes_turns_and_its_first_round_does_not_count():
    turns = []

    def way(name, *seconds):
        left = iter(seconds)
        return lambda: turns.append(name) or next(left)

    ways = {"a": way("a", 99.0, 1.0, 2.0), "b": way("b", 99.0, 4.0, 4.0)}
    rates = race(8, 2, ways)
    assert rates == {"a": [8.0, 4.0], "b": [2.0, 2.0]}
    assert turns == ["b", "a", "a", "b", "b", "a"]
    found = compare("x", rates, "a", "b")
    assert (found.first_rate, found.second_rate, found.ratio) == (6.0, 2.0, 3.0)
    assert found.cells() == ("x", "a", "6.0", "b", "2.0", "3.00", "2.00", "4.00")


def test_the_input_needs_photographs(tmp_path):
    for images in ("", str(tmp_path)):
        with pytest.raises(InputError, match=r"--images=DIR with 32 or more \.jpg files; .* has 0"):
            INPUT_BENCHMARKS["input"](BenchmarkConfig(images=images))


def test_every_way_of_the_input_is_measured(tmp_path):
    random = np.random.default_rng(0)
    for i in range(40):
        pixels = random.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    config = BenchmarkConfig(what="input", images=str(tmp_path), image_size=16, rounds=1)
    found = INPUT_BENCHMARKS["input"](config)
    assert [row.second for row in found] == [
        *("plain idiom", "best idiom", "decoding alone"),
        *("samestep", "samestep"),
    ]
    assert all(row.first_rate > 0 and row.second_rate > 0 for row in found)


def test_the_page_and_the_json_say_what_the_tables_say(tmp_path, capsys):
    page, data = tmp_path / "page.md", tmp_path / "data.json"
    config = BenchmarkConfig(what="reader", rounds=1, markdown=str(page), json=str(data))
    benchmark.benchmark(config)
    shown, written = capsys.readouterr().out, json.loads(data.read_text())
    assert [row["first"] for row in written["reader"]] == ["random order"] * 3
    for word in ("cores of", "TensorFlow 2.21", "| 60 KB records, 3,999, 128 reads |"):
        assert word in page.read_text()
    assert f"{written['reader'][0]['first_rate']:,.0f}" in shown
