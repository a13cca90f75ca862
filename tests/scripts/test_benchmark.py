"""What samestep-benchmark shows, and writes to its page and its JSON file, is the same."""

import json

import pytest

from scripts import benchmark
from scripts.benchmarks.config import BenchmarkConfig


def test_the_page_and_the_json_say_what_the_tables_say(tmp_path, capsys):
    page, data = tmp_path / "page.md", tmp_path / "data.json"
    config = BenchmarkConfig(what="reader", rounds=1, markdown=str(page), json=str(data))
    benchmark.benchmark(config)
    shown, written = capsys.readouterr().out, json.loads(data.read_text())
    assert [row["first"] for row in written["reader"]] == ["random order"] * 3
    for word in ("cores of", "TensorFlow 2.21", "| 60 KB records, 3,999, 128 reads |"):
        assert word in page.read_text()
    assert f"{written['reader'][0]['first_rate']:,.0f}" in shown


@pytest.mark.parametrize(
    ("images", "measured"),
    [
        ("", "loop fit exact step receipt monitoring batching reader start index"),
        (
            "photographs",
            "loop fit exact step receipt monitoring batching input gil reader start index",
        ),
    ],
)
def test_all_benchmarks_are_those_that_have_what_they_need(
    monkeypatch, capsys, tmp_path, images, measured
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").mkdir()
    names = []

    def measures_nothing(measure, name, config):
        names.append(name)
        return []

    monkeypatch.setattr(benchmark, "in_new_process", measures_nothing)
    benchmark.benchmark(BenchmarkConfig(images=images))
    assert names == measured.split()
    assert ("--what=input and gil are left out" in capsys.readouterr().err) == (not images)
