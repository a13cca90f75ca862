"""Workers as real processes: the same bits on any number of them, through any kill."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.conftest import THREADS

from trainer.errors import TrainerError
from trainer.launch import local
from trainer.launch.local import Ended

ROOT = Path(__file__).parent.parent
TRAIN = (
    *("--model=cnn", "--dropout=0.2", "--image_size=8", "--global_batch_size=32"),
    *("--micro_batch_size=8", "--optimizer=adamw", "--learning_rate=0.003", "--clip_norm=1"),
    *(f"--intra_op_threads={THREADS}", "--checkpoint_every_steps=3", "--log_every_steps=1"),
)
EPOCHS = 4  # of 5 steps
RUNS_TO_KILL = 7
EPOCHS_TO_KILL = 30  # long enough to be killed in the middle
PATIENCE_SECONDS = 300
SEED = random.SystemRandom().randrange(10**6)


class Launch:
    """samestep-launch with samestep-train in its workers."""

    def __init__(self, data_dir, run: Path, workers: int, cpus: int, epochs: int, *flags: str):
        self.run = run
        self.log = run.with_suffix(".log")
        launch = [f"--workers={workers}", f"--logs={run}-logs", "--grace_seconds=10", *flags]
        train = [*TRAIN, f"--data_dir={data_dir}", f"--run_dir={run}", f"--epochs={epochs}"]
        command = [sys.executable, "-m", "scripts.train", *train, f"--virtual_cpus={cpus}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scripts.launch", *launch, "--", *command],
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )

    def wait(self) -> int:
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def workers(self) -> dict[int, int]:
        """Worker -> its process now; those that are being made are not there yet."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                pairs = path.read_bytes().split(b"\0")
                arguments = (path.parent / "cmdline").read_bytes()
            except OSError:
                continue
            if f"--run_dir={self.run}\0".encode() in arguments and b"scripts.train" in arguments:
                for pair in pairs:
                    if pair.startswith(b"TF_CONFIG="):
                        index = json.loads(pair.partition(b"=")[2])["task"]["index"]
                        found[index] = int(path.parent.name)
        return found

    def until(self, moment: Callable[[Path], object]) -> bool:
        """Waits for a moment; False if the launch ended before it."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            if moment(self.run):
                return True
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.001)
        return False


def fingerprint(run: Path) -> str:
    """Of the weights at the end."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][-1]["fingerprint"]


def steps_done(run: Path) -> int:
    """The newest step that metrics.jsonl has whole."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    steps = [re.match(r'\{"step": (\d+),', line) for line in lines]
    return max((int(step[1]) for step in steps if step), default=0)


def train_alone(data_dir, run: Path, epochs: int, cpus: int) -> str:
    """One process without a launcher; the fingerprint at its end."""
    flags = [*TRAIN, f"--data_dir={data_dir}", f"--run_dir={run}", f"--epochs={epochs}"]
    command = [sys.executable, "-m", "scripts.train", *flags, f"--virtual_cpus={cpus}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return fingerprint(run)


@pytest.fixture(scope="module")
def undisturbed(data_dir, tmp_path_factory) -> str:
    """The weights of the long run on one CPU, never killed."""
    return train_alone(data_dir, tmp_path_factory.mktemp("alone") / "run", EPOCHS_TO_KILL, 1)


@pytest.fixture(scope="module")
def alone(data_dir, tmp_path_factory) -> Path:
    """The short run on one CPU."""
    run = tmp_path_factory.mktemp("short") / "run"
    train_alone(data_dir, run, EPOCHS, 1)
    return run


def metrics(run: Path) -> list[dict]:
    """What the run wrote about every step, without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = ("images_per_second", "seconds_per_step")
    return [{k: v for k, v in line.items() if k not in times} for line in lines]


@pytest.mark.parametrize(("workers", "cpus"), [(1, 4), (2, 1), (2, 2), (4, 1)])
def test_any_split_over_workers_is_the_same_run(alone, data_dir, tmp_path, workers, cpus):
    """Weights, losses, norms and evaluations of every step, N/N, written once."""
    run = tmp_path / "run"
    launch = Launch(data_dir, run, workers, cpus, EPOCHS)
    assert launch.wait() == 0, launch.log.read_text()
    assert metrics(run) == metrics(alone)
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    assert f"[0] epoch {EPOCHS}: accuracy" in launch.log.read_text()
    assert launch.log.read_text().count("on 43/43, loss") == EPOCHS


@pytest.mark.kill
def test_a_run_moves_from_2x2_to_1x4_to_4x1(undisturbed, data_dir, tmp_path):
    run = tmp_path / "run"
    for workers, cpus, after in ((2, 2, 12), (1, 4, 40)):
        launch = Launch(data_dir, run, workers, cpus, EPOCHS_TO_KILL)
        assert launch.until(lambda run, after=after: steps_done(run) >= after)
        launch.process.terminate()
        assert launch.wait() == 75, launch.log.read_text()
        assert "stopped by SIGTERM after step" in launch.log.read_text()
    last = Launch(data_dir, run, 4, 1, EPOCHS_TO_KILL)
    assert last.wait() == 0, last.log.read_text()
    assert fingerprint(run) == undisturbed


class Kill(NamedTuple):
    """One disturbance of a launch of two workers."""

    what: str  # as the table names it
    worker: int
    moment: Callable[[Path, int], object]  # run, step -> whether it is time
    number: signal.Signals = signal.SIGKILL


def at_start(run: Path, step: int) -> bool:
    return True  # as soon as the process is there


def between_steps(run: Path, step: int) -> bool:
    return steps_done(run) >= step


def while_saving(run: Path, step: int) -> bool:
    folders = (run / "checkpoints").glob("step-*.incomplete")
    return any(int(path.stem.removeprefix("step-")) >= step for path in folders)


def while_evaluating(run: Path, step: int) -> bool:
    """Between an epoch's checkpoint and the note of its evaluation."""
    for path in (run / "checkpoints").glob("step-????????/state.json"):
        number = int(path.parent.name.removeprefix("step-"))
        if number >= step and number % 5 == 0:
            try:
                return json.loads(path.read_text())["evaluation"] is None
            except (OSError, ValueError):
                continue
    return False


MOMENTS = {
    "at its start": at_start,
    "between steps": between_steps,
    "while a checkpoint is written": while_saving,
    "during the evaluation": while_evaluating,
}
KILLS = [
    Kill(f"SIGKILL of {'the chief' if worker == 0 else 'worker 1'} {when}", worker, moment)
    for when, moment in MOMENTS.items()
    for worker in (0, 1)
]


def disturb(launch: Launch, kills: list[Kill], steps: list[int]) -> list[tuple[str, int, float]]:
    """Sends each kill at its moment: (what, step, seconds until the run made a new step)."""
    outcomes, gone = [], set()
    for kill, step in zip(kills, steps, strict=True):
        fresh = lambda _, k=kill, old=gone: launch.workers().get(k.worker, 0) not in {0} | old  # noqa: E731
        assert launch.until(fresh)
        assert launch.until(lambda run, k=kill, s=step: k.moment(run, s)), "the run was faster"
        process, start = launch.workers()[kill.worker], time.monotonic()
        before = steps_done(launch.run)
        os.kill(process, kill.number)
        gone |= set(launch.workers().values()) | {process}
        launch.until(lambda run, b=before: steps_done(run) > b)
        outcomes.append((kill.what, before, time.monotonic() - start))
    return outcomes


def test_kills_end_in_restarts_and_the_same_weights(undisturbed, data_dir, tmp_path):
    """The short matrix; make test-kill has the whole."""
    print(f"seed {SEED}")
    chosen = random.Random(SEED).sample(KILLS[2:], 2)
    launch = Launch(data_dir, tmp_path / "run", 2, 1, EPOCHS_TO_KILL)
    disturb(launch, chosen, [20, 70])
    assert launch.wait() == 0, launch.log.read_text()
    said = launch.log.read_text()
    assert said.count("ended by SIGKILL. Its last lines:") == 2
    assert "restart 2 of 3 in 2 s" in said
    assert fingerprint(launch.run) == undisturbed


@pytest.mark.kill
def test_the_kill_matrix(undisturbed, data_dir, tmp_path, request):
    """Every kind of kill nearly three times, and a worker that hangs; docs/reliability.md."""
    choose = random.Random(SEED)
    print(f"seed {SEED}")
    rows = []
    stop = Kill("SIGSTOP of worker 1 between steps", 1, between_steps, signal.SIGSTOP)
    drawn = [kill for _ in range(3) for kill in choose.sample(KILLS, len(KILLS))]
    # Three a run: the launcher waits longer before each restart.
    for number in range(RUNS_TO_KILL):
        kills = drawn[3 * number : 3 * number + 3] + [stop] * (number == 0)
        width = (EPOCHS_TO_KILL * 5 - 10) // len(kills)
        steps = [i * width + choose.randrange(1, width // 2) for i in range(len(kills))]
        launch = Launch(
            data_dir, tmp_path / f"run{number}", 2, 1, EPOCHS_TO_KILL, "--max_restarts=99"
        )
        rows += disturb(launch, kills, steps)
        assert launch.wait() == 0, launch.log.read_text()
        assert fingerprint(launch.run) == undisturbed
    page = request.config.getoption("--kill-table")
    if page:
        Path(page).write_text(reliability(rows, undisturbed))


def reliability(rows: list[tuple[str, int, float]], weights: str) -> str:
    """docs/reliability.md."""
    lines = [
        "# Reliability",
        "",
        "Written by `make test-kill`.",
        "",
        f"{RUNS_TO_KILL} runs of 150 steps of `samestep-launch --workers=2 -- samestep-train ..`,",
        "a checkpoint every 3; the moments are drawn; the launcher starts the workers again. The",
        f"{len(rows)} kills ended in the weights of the run on one CPU that was never killed:",
        f"`{weights}`.",
        "",
        "| what | last step before | seconds to the next new step |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {what} | {step} | {seconds:.0f} |" for what, step, seconds in rows]
    return "\n".join([*lines, ""])


def test_a_worker_that_stalls_is_ended_with_its_stacks_and_started_again(data_dir, tmp_path):
    """Its reading hangs once, in a process that lives on."""
    (tmp_path / "stalling.py").write_text(
        "import os, time\n"
        "from input import reader\n"
        "read = reader.RecordReader.read\n"
        "def stall(self, numbers):\n"
        f"    mark = {str(tmp_path / 'stalled')!r}\n"
        "    if '\"index\": 1' in os.environ['TF_CONFIG'] and not os.path.exists(mark):\n"
        "        open(mark, 'w').close()\n"
        "        time.sleep(3600)\n"
        "    return read(self, numbers)\n"
        "reader.RecordReader.read = stall\n"
        "from scripts.train import main\n"
        "main()\n"
    )
    train = [*TRAIN, f"--data_dir={data_dir}", f"--run_dir={tmp_path / 'run'}", "--epochs=2"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scripts.launch", "--workers=2", "--grace_seconds=5"),
            *(f"--logs={tmp_path / 'logs'}", "--", sys.executable),
            *(str(tmp_path / "stalling.py"), *train, "--virtual_cpus=1", "--stall_seconds=8"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error: Step 0 or one of the next stalled. Nothing happened for 8 s" in done.stdout
    assert "in stall" in done.stdout
    assert "restart 1 of 3" in done.stdout


def test_workers_that_do_not_come_are_named(data_dir, tmp_path):
    cluster = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker"}}
    port = local._free_ports(1)[0]
    cluster["cluster"]["worker"][0] = f"127.0.0.1:{port}"
    cluster["task"]["index"] = 0
    flags = [*TRAIN, f"--data_dir={data_dir}", f"--run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.train", *flags, "--virtual_cpus=1", "--start_seconds=6"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CONFIG": json.dumps(cluster)},
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == -signal.SIGABRT
    assert "missing: worker 1 at 127.0.0.1:2 (Connection refused)" in done.stderr
    assert "_initialize_multi_worker" in done.stderr


def test_workers_with_other_devices_are_refused(data_dir, tmp_path):
    flags = shlex.join([*TRAIN, f"--data_dir={data_dir}", f"--run_dir={tmp_path / 'run'}"])
    cpus = "$([[ $TF_CONFIG == *'\"index\": 1'* ]] && echo 2 || echo 1)"
    train = f"exec {sys.executable} -m scripts.train {flags} --virtual_cpus={cpus}"
    done = launch_of(train, "--workers=2", "--grace_seconds=15", tmp_path=tmp_path)
    assert done.returncode == 2
    assert "error: Worker 1 has 2 devices (CPU:0, CPU:1), worker 0 has 1." in done.stdout


def launch_of(command: str, *flags: str, tmp_path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            *(sys.executable, "-m", "scripts.launch", f"--logs={tmp_path / 'logs'}", *flags),
            *("--", "bash", "-c", command),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE_SECONDS,
    )


def test_every_worker_has_its_prefix_its_log_and_its_number(tmp_path):
    done = launch_of("echo $TF_CONFIG; echo oh >&2", "--workers=3", tmp_path=tmp_path)
    assert done.returncode == 0
    for worker in range(3):
        logged = (tmp_path / "logs" / f"worker-{worker}.log").read_text()
        said, configuration = sorted(logged.splitlines())
        assert json.loads(configuration)["task"] == {"type": "worker", "index": worker}
        for line in (said, configuration):
            assert f"[{worker}] {line}" in done.stdout.splitlines()


def test_the_root_cause_comes_first_and_its_code_is_returned(tmp_path):
    one_fails = "if [[ $TF_CONFIG == *'\"index\": 1'* ]]; then echo because; exit 7; fi; sleep 600"
    flags = ("--workers=3", "--max_restarts=1", "--grace_seconds=2")
    done = launch_of(one_fails, *flags, tmp_path=tmp_path)
    assert done.returncode == 7
    assert done.stdout.count("worker 1 ended with exit code 7. Its last lines:\n    because") == 2
    assert "restart 1 of 1 in 1 s" in done.stdout
    assert "1 restarts were not enough" in done.stdout


def test_a_wrong_setting_is_not_tried_again_and_preemption_always(tmp_path):
    assert launch_of("exit 2", tmp_path=tmp_path).returncode == 2
    once = f"mkdir {tmp_path / 'seen'} && exit 75; exit 0"
    done = launch_of(once, "--max_restarts=0", tmp_path=tmp_path)
    assert (done.returncode, "preempted and saved" in done.stdout) == (0, True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_survives_the_launcher(tmp_path, number):
    """Not even what left the worker's session: SIGKILL and Ctrl-C."""
    mark = f"sleep 86{os.getpid()}"
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "scripts.launch", "--workers=2"),
            *(f"--logs={tmp_path / 'logs'}", "--", "bash", "-c"),
            f"trap '' INT TERM; setsid {mark} & {mark}; true",
        ],
        cwd=ROOT,
    ) as process:
        count = lambda: len(  # noqa: E731
            subprocess.run(["pgrep", "-f", f"^{mark}"], capture_output=True).stdout.split()
        )
        wait_for(lambda: count() == 4)
        process.send_signal(number)
        start = time.monotonic()
        process.wait()
        wait_for(lambda: count() == 0)
    assert time.monotonic() - start < 10
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("ends", "root"),
    [
        ([Ended(1, -9, False), Ended(0, 69, False)], 1),
        ([Ended(0, 69, False), Ended(1, -9, False)], 1),
        ([Ended(0, 69, False), Ended(2, 69, True), Ended(1, -9, True)], 1),
        ([Ended(0, 0, False), Ended(2, 1, False), Ended(1, 1, False)], 2),
        ([Ended(0, 69, False), Ended(1, 69, False)], 0),
        ([Ended(1, -15, True), Ended(0, 2, False)], 0),
    ],
)
def test_the_root_cause(ends, root):
    assert local.root_cause(ends).worker == root


def test_gpus_are_shared_out():
    assert local.share_out(["0", "1", "2", "3"], 2, None) == [["0", "1"], ["2", "3"]]
    assert local.share_out(["4", "5", "6"], 2, 1) == [["4"], ["5"]]
    assert local.share_out([], 3, None) == [[], [], []]
    for gpus, workers, each in ((["0"], 2, 1), (["0", "1", "2"], 2, None), ([], 1, 1)):
        with pytest.raises(TrainerError, match=f"{len(gpus)} GPUs cannot be shared out"):
            local.share_out(gpus, workers, each)
    assert local.visible_gpus({"CUDA_VISIBLE_DEVICES": "GPU-a,3"}) == ["GPU-a", "3"]
    assert local.visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []
