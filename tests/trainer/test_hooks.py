"""--on_metrics: found before training, and harmless whatever it does."""

import json
import re
import sys
import types

import pytest

from tests.conftest import ROOT, error
from tests.trainer.conftest import HARDWARE, settings
from trainer import hooks, loop
from trainer.hooks import Observer

LINE = {"step": 20, "train/loss": 0.5, "train/gradient_norm": None}
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tracking.md").read_text(), re.DOTALL)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of the user's, in the folder that the command is started in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return f"{name}:log"

    yield write
    for name in [name for name in sys.modules if name.startswith("hook_")]:
        del sys.modules[name]


def test_a_function_of_a_module_here_is_found(module):
    hook = hooks.load(module("hook_good", "lines = []\ndef log(line): lines.append(line)\n"))
    hook(LINE)
    assert sys.modules["hook_good"].lines == [LINE]
    assert hooks.load("") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "importing hook_bad failed: ModuleNotFoundError: No module named 'hook_bad'. Start"),
        ("import nowhere", "importing hook_bad failed: ModuleNotFoundError: No module named 'now"),
        ("def", "importing hook_bad failed: SyntaxError: "),
        ("1 / 0", "importing hook_bad failed: ZeroDivisionError: division by zero. Start in"),
        ("other = 1", "hook_bad has no function log."),
        ("log = 1", "hook_bad has no function log."),
        ("def log(): pass", "must be callable with one dict: TypeError: too many positional"),
    ],
)
def test_what_is_no_such_function_is_named(module, text, message):
    name = "hook_bad:log" if text is None else module("hook_bad", text)
    said = error(hooks.load, name)
    assert said.startswith("--on_metrics=hook_bad:log")
    assert message in said


def test_only_worker_0_imports_it(module, monkeypatch):
    task = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    assert hooks.load(module("hook_raises", "1 / 0")) is None


def test_on_metrics_is_checked_before_anything_else(data_dir, tmp_path):
    config = settings(data_dir, tmp_path / "run", on_metrics="no.such:function")
    assert "importing no.such failed" in error(loop.fit, config, HARDWARE)
    assert not (tmp_path / "run").exists()
    assert error(settings, data_dir, on_metrics="module.function") == (
        "--on_metrics must be package.module:function, not 'module.function'."
    )


@pytest.mark.parametrize("failure", [ValueError("a\nb"), SystemExit(3)])
def test_what_a_hook_raises_is_said_once(failure):
    said, got = [], []

    def hook(line):
        got.append(line["step"])
        line.clear()
        raise failure

    observe = Observer(hook, said.append)
    for step in (20, 40):
        line = {**LINE, "step": step}
        observe(line)
        assert line["step"] == step, "it has a copy"
    assert got == [20, 40]
    assert len(said) == 1 and "\n" not in said[0]
    assert said[0].startswith(f"--on_metrics failed at step 20: {type(failure).__name__}: ")


def test_a_run_gives_it_each_line_and_goes_on_as_without(finished, data_dir, tmp_path, capsys):
    got = []

    def hook(line):
        written = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert json.loads(written[-1]) == line, "on the disk before"
        got.append(line)
        raise ValueError("not today")

    state = loop.fit(settings(data_dir, tmp_path), HARDWARE, hook=hook)
    assert state.fingerprint == finished.state.fingerprint
    assert len(got) == len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6
    assert capsys.readouterr().out.count("not today") == 1


def lines_of(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_the_documents_mlflow_hook_logs_a_run(finished, module, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    (block,) = [block for block in BLOCKS if "import mlflow" in block]
    observe = Observer(hooks.load(module("hook_mlflow", block)), pytest.fail)
    lines = lines_of(finished.run_dir)
    for line in lines:
        observe(line)
    run = mlflow.active_run()
    mlflow.end_run()
    client = mlflow.MlflowClient()
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    expected = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
    assert [(point.step, point.value) for point in losses] == expected
    accuracy = client.get_run(run.info.run_id).data.metrics["validation/accuracy"]
    assert accuracy == lines[-1]["validation/accuracy"]
    assert list((tmp_path / "runs" / "mlflow").rglob("train/loss"))


def test_the_documents_wandb_hook_logs_a_run(finished, module, monkeypatch):
    """Against a stand-in with the calls' signatures: Weights & Biases needs an account."""
    logged = []
    wandb = types.ModuleType("wandb")

    def init(*, project: str, id: str, resume: str):
        return types.SimpleNamespace(log=lambda data, step: logged.append((step, data)))

    wandb.init = init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    (block,) = [block for block in BLOCKS if "import wandb" in block]
    observe = Observer(hooks.load(module("hook_wandb", block)), pytest.fail)
    lines = lines_of(finished.run_dir)
    for line in lines:
        observe(line)
    assert logged == [(line["step"], line) for line in lines]
