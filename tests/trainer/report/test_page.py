"""The page of a run: complete, in one file, and true also where a part of the run is gone."""

import shutil
from html.parser import HTMLParser
from typing import get_type_hints

import numpy as np
import pytest

from input.foundation.settings import settings
from trainer import findings, run_dir
from trainer.config import Config
from trainer.findings import Findings, Mistake
from trainer.report import page


class Elements(HTMLParser):
    """What a browser would load, and which elements there are."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def text(finished) -> str:
    return page.render(finished.run_dir)


def test_it_needs_nothing_else(text):
    elements = Elements(text)
    assert elements.tags.count("svg") == 1 and elements.tags.count("img") == 2
    assert "script" not in elements.tags and "link" not in elements.tags
    outside = [each for each in elements.sources if not each.startswith(("data:image/png", "#"))]
    assert outside == []


def test_it_says_what_the_run_has_come_to(text, finished):
    state = finished.state
    assert f"<dd>{state.best:.4f}</dd>" in text
    assert state.fingerprint in text
    for group in get_type_hints(Config).values():
        for setting in settings(group):
            assert f"<td>{setting.name}</td>" in text
    assert "samestep-train --data_dir=" in text
    assert "Steps without finite gradients" not in text  # there were none


def test_the_worst_classes_come_first_with_what_they_are_taken_for():
    pairs = np.array([(0, 0, 9), (0, 1, 1), (1, 0, 3), (1, 1, 1), (2, 2, 5)], np.int64)
    found = Findings(("cat", "dog", "owl", "none"), pairs, ())
    rows = list(page._worst(found))
    assert [row["name"] for row in rows] == ["dog", "cat", "owl"]
    assert rows[0] == {"name": "dog", "right": "25.0%", "images": "4", "taken_for": "cat (75.0%)"}
    assert rows[2]["taken_for"] == "nothing else"


def test_a_name_is_no_markup(finished, monkeypatch):
    hostile = "<script>alert(1)</script>"
    pairs = np.array([(0, 1, 2), (1, 1, 3)], np.int64)
    found = Findings((hostile, "dog"), pairs, (Mistake(0, 0, 1, 0.9),))
    monkeypatch.setattr(page, "_findings", lambda folder, step: (found, ""))
    assert "script" not in Elements(page.render(finished.run_dir)).tags


def test_what_is_gone_is_said(finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished.run_dir, tmp_path / "copy")
    best = page.metrics.best(page.metrics.read(folder))["step"]
    assert findings.load(folder, best) is not None
    monkeypatch.setattr(page.data, "manifests", _gone)
    assert "Their images cannot be shown: moved" in page.render(folder)
    shutil.rmtree(folder / "evaluations")
    assert f"What was found at step {best} is not there any more." in page.render(folder)
    (folder / run_dir.METRICS_FILE).unlink()
    shutil.rmtree(folder / "checkpoints")
    text = page.render(folder)
    assert "There are no metrics yet." in text and "There is no evaluation yet." in text


def _gone(config, splits):
    raise page.InputError("moved")
