"""A real TensorBoard on real runs, asked over HTTP for everything that it shows."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CLASSES
from tests.trainer.board.conftest import accumulated, steps, watched
from trainer import loop
from trainer.board import scalars, show
from trainer.config import Hardware
from trainer.pictures.sheet import GAP, LINE


def lines(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def points(run_dir) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Run and tag -> step and value, as metrics.jsonl has them."""
    found = {}
    for line in lines(run_dir):
        step = line.pop("step")
        line.pop("epoch")
        for key, value in line.items():
            if isinstance(value, int | float):
                run, tag = scalars.place(key, scalars.run_of(line))
                found.setdefault((f"{run_dir.name}/{run}", tag), []).append((step, value))
    return found


def test_the_runs(server):
    assert sorted(json.loads(server.raw("data/runs"))) == [
        *("first", "first/train", "first/validation", "first/validation_ema"),
        *("second", "second/train", "second/validation"),
    ]


@pytest.mark.parametrize("name", ["first", "second"])
def test_scalars_are_those_of_metrics_jsonl(server, runs, name):
    expected = points(runs / name)
    tags = server.get("scalars/tags")
    ours = {(run, tag) for run in tags for tag in tags[run] if run.startswith(name)}
    assert ours == set(expected)
    for (run, tag), values in expected.items():
        found = server.get("scalars/scalars", run=run, tag=tag)
        assert [(step, np.float32(value)) for _, step, value in found] == [
            (step, np.float32(value)) for step, value in values
        ]
    assert {"loss", "accuracy", "learning_rate", "gradient_norm"} <= {tag for _, tag in expected}
    assert {"memory/process_mib", "speed/images_per_second"} <= {tag for _, tag in expected}


def picture(server, run: str, tag: str, sample: int) -> Image.Image:
    found = server.get("images/images", run=run, tag=tag, sample="0")
    blob = server.raw(f"data/plugin/images/individualImage?{found[sample]['query']}")
    return Image.open(io.BytesIO(blob))


def test_the_first_images_of_the_first_epochs(server):
    found = server.get("images/images", run="first/train", tag="images/micro_batch", sample="0")
    assert [each["step"] for each in found] == [1, 6, 11]
    first, later = (picture(server, "first/train", "images/micro_batch", i) for i in (0, 1))
    assert first.format == "PNG" and first.size == (8 * (112 + GAP) + GAP, 112 + LINE + 2 * GAP)
    assert first.tobytes() != later.tobytes()


def test_the_last_evaluation_in_pictures(server):
    """Of the averages, by which the run is judged."""
    for tag in ("images/confusion", "images/mistakes"):
        found = server.get("images/images", run="first/validation_ema", tag=tag, sample="0")
        assert [each["step"] for each in found] == [15]
        assert picture(server, "first/validation_ema", tag, 0).format == "PNG"


def test_the_texts(server):
    tags = server.get("text/tags")["first"]
    assert sorted(tags) == [
        *("cards/finished", "cards/samestep", "run/config", "run/environment", "run/plan"),
    ]
    said = {tag: server.get("text/text", run="first", tag=tag)[0]["text"] for tag in tags}
    assert "<td>ema_decay</td>\n<td>0.5</td>" in said["run/config"]
    assert "<td>steps_per_epoch</td>\n<td>5</td>" in said["run/plan"]
    assert "<td>tensorflow</td>" in said["run/environment"]
    assert "nothing reshapes the batch before block1_conv" in said["cards/samestep"]
    assert "fingerprint" in said["cards/finished"]


STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]


def rows(server, *columns: dict) -> list[str]:
    """The runs of the table, sorted and filtered."""
    found = server.post(
        "hparams/session_groups",
        experimentName="",
        allowedStatuses=STATUSES,
        colParams=list(columns),
        startIndex=0,
        sliceSize=100,
    )
    return [group["name"] for group in found["sessionGroups"]]


def test_runs_are_sorted_and_filtered_by_any_setting(server):
    assert sorted(rows(server)) == ["first", "second"]
    by_decay = {"hparam": "ema_decay", "order": "ORDER_DESC"}
    assert rows(server, by_decay) == ["first", "second"]
    assert rows(server, {**by_decay, "order": "ORDER_ASC"}) == ["second", "first"]
    large = {"hparam": "ema_decay", "filterInterval": {"minValue": 0.1, "maxValue": 1.0}}
    assert rows(server, large) == ["first"]
    assert rows(server, {"hparam": "model", "filterRegexp": "resnet"}) == []
    name = {"group": "validation", "tag": "accuracy"}
    assert sorted(rows(server, {"metric": name, "order": "ORDER_DESC"})) == ["first", "second"]


def test_the_final_metrics_stand_beside_the_settings(server, runs):
    experiment = server.post("hparams/experiment", experimentName="", hparamsLimit=0)
    names = [info["name"] for info in experiment["hparamInfos"]]
    assert names[:4] == ["ema_decay", "histogram_every", "log_every_steps", "profile_steps"]
    assert {"learning_rate", "model", "global_batch_size"} <= set(names)
    found = server.post(
        "hparams/session_groups",
        experimentName="",
        allowedStatuses=["STATUS_SUCCESS"],
        colParams=[],
        startIndex=0,
        sliceSize=100,
    )
    last = points(runs / "first")["first/validation", "accuracy"][-1]
    (first,) = [group for group in found["sessionGroups"] if group["name"] == "first"]
    values = {(v["name"]["group"], v["name"]["tag"]): v for v in first["metricValues"]}
    value = values["validation", "accuracy"]
    assert (value["trainingStep"], np.float32(value["value"])) == (last[0], np.float32(last[1]))


def test_histograms_graph_and_profile(server, runs):
    tags = server.get("histograms/tags")
    assert list(tags) == ["first/train"]
    assert "weights/block1_conv/kernel" in tags["first/train"]
    found = server.get("histograms/histograms", run="first/train", tag="weights/block1_conv/kernel")
    assert [step for _, step, _ in found] == [5, 10, 15]
    graph = server.raw("data/plugin/graphs/graph?run=first&conceptual=false").decode()
    assert 'name: "block1_conv/' in graph
    assert len(list((runs / "first").glob("plugins/profile/*/*.xplane.pb"))) == 1


def test_a_resumed_run_shows_no_step_twice(data_dir, runs, tmp_path, capsys):
    """The newest checkpoint is damaged: the run goes on from step 10, which others have read."""
    run = tmp_path / "run"
    shutil.copytree(runs / "first", run)
    readers = {name: accumulated(run / name) for name in scalars.RUNS}
    data = next((run / "checkpoints" / "step-00000015").glob("weights.data*"))
    data.write_bytes(data.read_bytes()[:-1])
    for file in scalars.RUNS:  # what was written after step 10 is not to be seen again
        assert max(steps(run / file)) == 15
    loop.fit(watched(data_dir, run), Hardware(virtual_cpus=1))
    assert "step-00000015 is damaged" in capsys.readouterr().out
    expected = points(run)
    for name, running in readers.items():
        for reader in (running.Reload(), accumulated(run / name)):
            for tag in reader.Tags()["tensors"]:
                found = [each.step for each in reader.Tensors(tag)]
                assert found == sorted(set(found))
                if (f"run/{name}", tag) in expected:
                    assert found == [step for step, _ in expected[f"run/{name}", tag]]
    images = accumulated(run / "train").Tensors("images/micro_batch")
    assert [each.step for each in images] == [1, 6, 11]


def test_events_that_cannot_be_written_change_nothing(data_dir, finished, tmp_path, capsys):
    for name in scalars.RUNS:
        (tmp_path / name).write_text("no folder")
    config = watched(data_dir, tmp_path)
    plain = replace(config.optimizer, ema_decay=0.0)
    state = loop.fit(replace(config, optimizer=plain), Hardware(virtual_cpus=1))
    assert state.fingerprint == finished.state.fingerprint
    assert capsys.readouterr().out.count("events for TensorBoard cannot be written") == 1


def test_captions():
    hard = show.captions_of(np.array([2, 0, 1]), np.array([1, 1, 0], np.float32), CLASSES)
    assert hard == ["square", "circle", "left out"]
    soft = np.array([[0.7, 0.3, 0], [0, 0, 1], [0.2, 0.3, 0.5]], np.float32)
    found = show.captions_of(soft, np.ones(3, np.float32), CLASSES)
    assert found == ["0.7 circle, 0.3 cross", "1 square", "0.5 square, 0.3 cross"]
