"""Runs, data sets and commands under attack, by the hundred: one result, or one line.

make test-attack. Which attack came when is drawn from a seed, which is printed.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from input.foundation.errors import UserError
from input.manifest import Manifest
from input.prepare.config import IndexConfig, WriteConfig
from input.prepare.index import index
from input.prepare.writer import write
from tests import saves
from tests.conftest import ROOT, write_row
from tests.trainer.workers.runs import (
    PATIENCE_SECONDS,
    TRAIN,
    Launch,
    fingerprint,
    steps_done,
    tf_config,
    train_alone,
)
from tests.trainer.workers.test_kills import while_evaluating, while_saving
from trainer import run_dir
from trainer.config import Hardware
from trainer.evaluate import evaluate_run

SEED = random.SystemRandom().randrange(10**6)
EPOCHS = 6  # of 5 steps, with a checkpoint every 3
COLUMNS = ("attack", "how often", "what was left")

pytestmark = pytest.mark.attack


@pytest.fixture(scope="session")
def undisturbed(data_dir, tmp_path_factory) -> str:
    """The weights of a run that nobody attacks."""
    return train_alone(data_dir, tmp_path_factory.mktemp("alone") / "run", EPOCHS, 1)


@pytest.fixture
def chance() -> random.Random:
    print(f"seed {SEED}")
    return random.Random(SEED)


@pytest.fixture
def note(request) -> Callable[[str, object, str], None]:
    """Writes a row of docs/reliability.md."""

    def row(attack: str, times: object, left: str) -> None:
        print(f"{attack}: {times}: {left}")
        if page := request.config.getoption("--attack-table"):
            write_row(Path(page), "Attacks", COLUMNS, [attack, str(times), left], keys=1)

    return row


def train(data_dir, run: Path, *flags: str, prefix=(), **options) -> subprocess.Popen:
    """samestep-train, which writes to RUN.log."""
    argv = [
        *(*prefix, sys.executable, "-m", "scripts.train", *TRAIN, f"--epochs={EPOCHS}"),
        *(f"--data_dir={data_dir}", f"--run_dir={run}", "--virtual_cpus=1", *flags),
    ]
    with run.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=log, **options)


def until(process: subprocess.Popen, happened: Callable[[], object]) -> bool:
    """Waits for a moment; False if the process ended before it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None:
        if happened():
            return True
        assert time.monotonic() < end
        time.sleep(0.0005)
    return False


def finished(process: subprocess.Popen, run: Path) -> str:
    assert process.wait(timeout=PATIENCE_SECONDS) == 0, run.with_suffix(".log").read_text()[-3000:]
    return fingerprint(run)


# What a run is doing: run, step -> whether it does that now, at this step or later.
MOMENTS: dict[str, Callable[[Path, int], object]] = {
    "start": lambda run, step: True,
    "trace": lambda run, step: (run / ".lock").exists(),
    "step": lambda run, step: steps_done(run) >= step,
    "save": while_saving,
    "rename": lambda run, step: any(
        int(path.name[5:]) >= step for path in (run / "checkpoints").glob("step-????????")
    ),
    "evaluation": while_evaluating,
}


@pytest.mark.parametrize("part", range(4))
def test_kills_of_one_process(data_dir, tmp_path, undisturbed, chance, note, part):
    """Each moment six times a part; the run goes on until it is complete, and then another."""
    chance.seed(f"{SEED} {part}")
    left = [moment for moment in MOMENTS for _ in range(6)]
    chance.shuffle(left)
    runs, kills = 0, Counter()
    while left:
        run = tmp_path / f"run{runs}"
        runs += 1
        done = False
        while not done:
            process = train(data_dir, run)
            if not left:
                break
            moment, before = left[-1], steps_done(run)
            # At the end of a run there is no later step: the next run's turn.
            step = min(before + 1 + chance.randrange(6), 5 * EPOCHS)
            if moment in ("start", "trace"):
                until(process, lambda m=moment, r=run: MOMENTS[m](r, 0))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=chance.uniform(0, 2.5))  # somewhere in it
            else:
                until(process, lambda m=moment, r=run, s=step: MOMENTS[m](r, s))
            if process.poll() is None:
                process.kill()
                kills[left.pop()] += 1
            done = process.wait() == 0
        assert finished(process, run) == undisturbed
    moments = ", ".join(f"{times} x {moment}" for moment, times in sorted(kills.items()))
    note(f"SIGKILL, one process, part {part + 1}", kills.total(), f"the same weights: {moments}")


def test_kills_of_two_workers_and_their_launcher(data_dir, tmp_path, undisturbed, chance, note):
    """A killed worker is started again by the launch that goes on; after the others, a new one."""
    kills = Counter()
    for number in range(4):
        run, victims = tmp_path / f"run{number}", ["launcher", "its child", "worker", "worker"] * 2
        chance.shuffle(victims)
        launch, old = Launch(data_dir, run, 2, 1, EPOCHS, "--max_restarts=9"), set()
        for victim in victims:
            step = min(steps_done(run) + chance.randrange(3), 5 * EPOCHS - 1)

            def ready(_, step=step, launch=launch, old=old, run=run):
                now = set(launch.workers().values())
                return len(now) == 2 and not now & old and steps_done(run) >= step

            if not launch.until(ready):
                break
            old |= set(launch.workers().values())
            target = launch.process.pid
            if victim == "its child":
                children = Path(f"/proc/{target}/task/{target}/children").read_text()
                (target,) = map(int, children.split())
            elif victim == "worker":
                target = chance.choice(list(launch.workers().values()))
            os.kill(target, signal.SIGKILL)
            kills[victim] += 1
            if victim != "worker":
                launch.wait()
                end = time.monotonic() + 10  # a process that is killed is not gone at once
                while launch.workers():
                    assert time.monotonic() < end
                launch = Launch(data_dir, run, 2, 1, EPOCHS, "--max_restarts=9")
        assert launch.wait() == 0, launch.log.read_text()[-3000:]
        assert fingerprint(run) == undisturbed
    for victim, times in kills.items():
        note(f"SIGKILL, two workers, {victim}", times, "the same weights")


@contextmanager
def killed(argv: list[str], chance: random.Random, seconds: float) -> Iterator[bool]:
    """Runs a command and kills it at a random moment; whether it was alive then."""
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=chance.uniform(0, seconds))
    alive = process.poll() is None
    process.kill()
    process.wait()
    yield alive


def test_kills_of_write_and_index(data_dir, tmp_path, chance, note):
    images, whole = data_dir.parent / "images", tmp_path / "whole"
    write(WriteConfig(images=str(images), out=str(whole), shards=3))
    expected = {
        split: Manifest.load(whole / split).fingerprint for split in ("train", "validation")
    }
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    commands = {
        "write": ["write", f"--images={images}", f"--out={out}", "--shards=3"],
        "index": ["index", str(whole), f"--out={theirs}"],
    }
    (whole / "labels.txt").write_text("\n".join(Manifest.load(whole / "train").classes))
    for path in whole.glob("*/*"):
        if path.suffix != ".tfrecord":
            path.unlink()
    for command, flags in commands.items():
        kills = 0
        while kills < 20:
            shutil.rmtree(folder := out if command == "write" else theirs, ignore_errors=True)
            with killed([sys.executable, "-m", "scripts.records", *flags], chance, 1.2) as alive:
                kills += alive
            found = {}
            for split in expected:
                try:
                    found[split] = Manifest.load(folder / split).fingerprint
                except UserError:
                    continue
            assert found.items() <= expected.items()
            assert found in ({}, expected) or (command == "index" and "train" not in found)
            if command == "write":
                shutil.rmtree(out, ignore_errors=True)
                write(WriteConfig(images=str(images), out=str(out), shards=3))
            else:
                shutil.rmtree(theirs, ignore_errors=True)
                index(IndexConfig(dir=str(whole), out=str(theirs)))
            assert {s: Manifest.load(folder / s).fingerprint for s in expected} == expected
        note(f"SIGKILL, samestep-records {command}", kills, "all or nothing; the next is complete")


def test_kills_of_evaluate_and_export(data_dir, tmp_path, undisturbed, chance, note):
    run, out = tmp_path / "run", tmp_path / "export"
    assert train_alone(data_dir, run, EPOCHS, 1) == undisturbed
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for command, flags in (("evaluate", ()), ("export", (f"--out={out}",))):
        kills = 0
        while kills < 12:
            argv = [sys.executable, "-m", f"scripts.{command}", f"--run_dir={run}", *flags]
            with killed(argv, chance, 6) as alive:
                kills += alive
            assert not out.exists() or (out / "saved_model.pb").exists()
            shutil.rmtree(out, ignore_errors=True)
        assert {path: path.read_bytes() for path in before} == before
        note(f"SIGKILL, samestep-{command}", kills, "the run is as it was; an export whole or none")


def test_stops_and_continues(data_dir, tmp_path, undisturbed, chance, note):
    """SIGSTOP for a moment: a laptop's lid, a debugger, a suspended machine."""
    process, stops = train(data_dir, run := tmp_path / "run"), 0
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        time.sleep(chance.uniform(0, 0.2))
        process.send_signal(signal.SIGCONT)
        stops += 1
        time.sleep(chance.uniform(0, 0.2))
    assert finished(process, run) == undisturbed
    note("SIGSTOP and SIGCONT", stops, "the same weights")


def cut(shards: list[Path]) -> None:
    os.truncate(shards[0], shards[0].stat().st_size // 2)


def swap(shards: list[Path]) -> None:
    a, b = (shard.read_bytes() for shard in shards[:2])
    shards[0].write_bytes(b)
    shards[1].write_bytes(a)


def swap_names(shards: list[Path]) -> None:
    shards[0].rename(aside := shards[0].with_name("aside"))
    shards[1].rename(shards[0])
    aside.rename(shards[1])


def delete(shards: list[Path]) -> None:
    for shard in shards:
        shard.unlink()


@pytest.mark.parametrize("change", [cut, swap, swap_names, delete])
def test_shards_that_change_during_a_run(data_dir, tmp_path, undisturbed, note, change):
    """Named where what is read is not what was indexed; open files may have been read on."""
    outcomes = Counter()
    for number in range(5):
        data = shutil.copytree(data_dir, tmp_path / f"data{number}")
        process = train(data, run := tmp_path / f"run{number}")
        assert until(process, lambda r=run, s=1 + number: steps_done(r) >= s)
        change(sorted((data / "train").glob("*.tfrecord")))
        code, said = process.wait(timeout=PATIENCE_SECONDS), run.with_suffix(".log").read_text()
        assert "Traceback" not in said
        if code == 0:
            assert fingerprint(run) == undisturbed
        else:
            assert code == 2
            assert re.search(r"error: Bad record: shard \S+/train/\S+, record \d+", said)
        outcomes["the same weights" if code == 0 else "one line with the record"] += 1
    left = ", ".join(f"{times} x {what}" for what, times in outcomes.items())
    note(f"shards during a run: {change.__name__.replace('_', ' ')}", 5, left)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the errors")
@pytest.mark.parametrize("when", ["3", "3..4", "3+"])
def test_reads_that_fail(data_dir, tmp_path, undisturbed, note, when):
    """EIO of the shards' reads, in each thread: once, twice, for ever."""
    data, run = shutil.copytree(data_dir, tmp_path / "data"), tmp_path / "run"
    shards = [f"--trace-path={path}" for path in sorted((data / "train").glob("*.tfrecord"))]
    inject = f"--inject=pread64:error=EIO:when={when}"
    strace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "pread64", inject]
    process = train(data, run, prefix=(*strace, *shards))
    code, said = process.wait(timeout=PATIENCE_SECONDS), run.with_suffix(".log").read_text()
    failed = (tmp_path / "trace").read_text().count("(INJECTED)")
    assert failed > 0 and "Traceback" not in said
    if when == "3+":
        assert code == 2
        assert "cannot be read: Input/output error. Repair the file system or copy" in said
    else:
        assert (code, fingerprint(run)) == (0, undisturbed), said[-3000:]
    left = "one line that names the file system" if code else "the same weights"
    how = {"3": "once", "3..4": "twice", "3+": "for ever"}[when]
    note(f"EIO of a read, {how} in each thread", failed, left)


def test_evaluations_of_a_run_that_goes_on(data_dir, tmp_path, undisturbed, note):
    process = train(data_dir, run := tmp_path / "run", "--checkpoint_every_steps=1")
    evaluations = 0
    assert until(process, lambda: any((run / "checkpoints").glob("step-????????")))
    while evaluations < 20:
        evaluate_run(run, Hardware(virtual_cpus=1))
        evaluations += 1
    assert finished(process, run) == undisturbed
    note("samestep-evaluate of a run that goes on", evaluations, "20 results; the same weights")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_fills_up(data_dir, tmp_path, note):
    """A real one, with every number of pages left that a save could have."""
    images, disk = data_dir.parent / "images", tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=True)
    try:
        run, page = disk / "run", os.sysconf("SC_PAGE_SIZE")
        run.mkdir()
        run_dir.save(run, saves.DEFINITION)
        _, checkpoints = saves.checkpoints(run)
        checkpoints.save(1)
        refused = saved = 0
        for pages in range(120):
            filler = disk / "filler"
            free = shutil.disk_usage(disk).free
            filler.write_bytes(bytes(max(0, free - pages * page)))
            try:
                checkpoints.save(2 + saved)
                saved += 1
            except UserError as error:
                assert "No space left on device" in str(error) and "\n" not in str(error)
                refused += 1
            for attempt in (
                lambda: run_dir.save(run, saves.DEFINITION),
                lambda: write(WriteConfig(images=str(images), out=str(disk / "data"))),
            ):
                try:
                    attempt()
                except UserError as error:
                    assert "No space left on device" in str(error) and "\n" not in str(error)
                    refused += 1
            filler.unlink()
            if (disk / "data").exists():
                assert Manifest.load(disk / "data" / "train").records == 160
                shutil.rmtree(disk / "data")
            assert run_dir.find(run) == saves.DEFINITION
            said: list[str] = []
            _, reader = saves.checkpoints(run)
            state = reader.restore(say=said.append)
            assert state is not None and state.step == 1 + saved and not said
        assert refused > 10 and saved > 10
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    note("a disk with 0 to 119 pages left", refused + saved, "the old state or the new one, whole")


def test_what_a_long_run_keeps(data_dir, tmp_path, note):
    """Memory, threads and descriptors over 5,000 steps, 10 evaluations and 20 saves."""
    flags = ("--global_batch_size=16", "--epochs=10", "--log_every_steps=100", "--augment=none")
    flags += ("--checkpoint_every_steps=250", "--checkpoint_every_minutes=0")
    # 160 images would be 500 evaluations: every image fifty times.
    many = tmp_path / "images"
    for split, copies in (("train", 50), ("validation", 1)):
        for path in (data_dir.parent / "images" / split).rglob("*.*"):
            for copy in range(copies):
                target = many / split / path.parent.name / f"{copy}-{path.name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
    write(WriteConfig(images=str(many), out=str(tmp_path / "data")))
    process = train(tmp_path / "data", run := tmp_path / "run", *flags)
    samples: dict[int, tuple[int, int, int]] = {}
    while process.poll() is None:
        step = steps_done(run)
        if step not in samples:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                descriptors = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
                kilobytes, threads = (
                    int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads")
                )
                samples[step] = (kilobytes // 1024, threads, descriptors)
            except (OSError, TypeError):  # it has just ended
                break
        time.sleep(0.02)
    finished(process, run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum("validation/accuracy" in line for line in lines) == 10
    assert steps_done(run) == 5000
    early, late = (
        [samples[step] for step in samples if low <= step < high]
        for low, high in ((1000, 2000), (4000, 5000))
    )
    rows = []
    for place, name in enumerate(("MB", "threads", "descriptors")):
        before, after = (max(sample[place] for sample in part) for part in (early, late))
        assert after <= before * 1.02 + 1, (name, before, after)
        rows.append(f"{name} {before} at most in steps 1,000 to 2,000, {after} in 4,000 to 5,000")
    left = "; ".join(rows)
    note("5,000 steps, 10 evaluations, 20 saves", 1, left)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces, joined by a cable."""
    names = (f"samestep-a-{os.getpid()}", f"samestep-b-{os.getpid()}")
    try:
        for name in names:
            ip("netns", "add", name)
        ends = [("cable", "netns", name) for name in names]
        ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="root and iproute2 make the network"
)
def test_a_network_that_is_gone_for_20_seconds(data_dir, tmp_path, undisturbed, note, hosts):
    run, addresses = tmp_path / "run", ["10.77.0.1:2222", "10.77.0.2:2222"]

    def start(number: int) -> subprocess.Popen:
        environment = {**os.environ, "TF_CONFIG": tf_config(addresses, number)}
        prefix = ("ip", "netns", "exec", hosts[number])
        log = tmp_path / f"worker{number}"
        argv = [
            *(*prefix, sys.executable, "-m", "scripts.train", *TRAIN, f"--epochs={EPOCHS}"),
            *(f"--data_dir={data_dir}", f"--run_dir={run}", "--virtual_cpus=1"),
            "--stall_seconds=60",
        ]
        with log.open("ab") as output:
            return subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=output, stderr=output)

    workers = [start(0), start(1)]
    assert until(workers[0], lambda: steps_done(run) >= 7)
    ip("-n", hosts[0], "link", "set", "cable", "down")
    begun, codes = time.monotonic(), []
    try:
        time.sleep(20)  # the loss itself
    finally:
        ip("-n", hosts[0], "link", "set", "cable", "up")
    for worker in workers:
        codes.append(worker.wait(timeout=PATIENCE_SECONDS))
    seconds = time.monotonic() - begun
    if codes != [0, 0]:
        assert steps_done(run) < 5 * EPOCHS
        again = [start(0), start(1)]
        assert [worker.wait(timeout=PATIENCE_SECONDS) for worker in again] == [0, 0]
    assert fingerprint(run) == undisturbed
    ended = f"both ended after {seconds:.0f} s with {codes}; started again: the same weights"
    note("a network that is gone for 20 s", 1, ended)
