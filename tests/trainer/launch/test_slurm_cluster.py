"""A real Slurm of two nodes on this machine: the same bits, requeues, addresses. make test-slurm"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.trainer.workers.runs import EPOCHS_TO_KILL, TRAIN, fingerprint, steps_done

MISSING = [name for name in ("slurmctld", "slurmd", "munged", "srun") if not shutil.which(name)]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd must be started by root"),
]
# Sorted as text, node10 comes before node9: ranks would get each other's address.
NODES = {"node9": "127.0.0.9", "node10": "127.0.0.10"}
PORT = 16_817
PATIENCE_SECONDS = 180


def until(happened: Callable[[], object]) -> None:
    """Waits; every wait of this file ends, or the test fails."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A controller and one slurmd a node, all on loopback; SLURM_CONF says where."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    lines = [
        "ClusterName=loopback",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={PORT}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        # A requeued job starts after its credential has expired; 120 s by default.
        "AuthInfo=cred_expire=5",
        # Not NoInAddrAny: slurmd would listen at its host's address, not at its node's.
        "CommunicationParameters=NoCtldInAddrAny",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "ReturnToService=2",
        "KillWait=5",
        "SchedulerParameters=bf_interval=1,sched_interval=5",
        "MinJobAge=3600",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        f"SlurmctldLogFile={folder}/slurmctld.log",
        f"SlurmdLogFile={folder}/slurmd-%n.log",
    ]
    for number, (name, address) in enumerate(NODES.items(), start=1):
        lines.append(
            f"NodeName={name} NodeHostname={host} NodeAddr={address} Port={PORT + number} "
            f"CPUs={os.cpu_count()} RealMemory=2000"
        )
    lines.append(f"PartitionName=all Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE")
    (folder / "slurm.conf").write_text("\n".join([*lines, ""]))
    if subprocess.run(["munge", "-n"], capture_output=True).returncode:
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        subprocess.run(["runuser", "-u", "munge", "--", shutil.which("munged")], check=True)
        until(lambda: subprocess.run(["munge", "-n"], capture_output=True).returncode == 0)
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    os.environ.update(environment)
    subprocess.run(["slurmctld"], check=True)
    for name in NODES:
        subprocess.run(["slurmd", "-N", name], check=True)
    until(lambda: set(said("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split()) == set(NODES))
    yield folder
    for path in folder.glob("*.pid"):
        os.kill(int(path.read_text()), signal.SIGTERM)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def submit(folder: Path, *flags: str, epochs: int) -> str:
    """Submits a run of two workers with samestep-launch; returns the job's number."""
    train = [sys.executable, "-m", "scripts.train", *TRAIN, *flags, f"--epochs={epochs}"]
    launch = [
        *("scripts.launch", "--where=slurm", "--workers=2", f"--logs={folder}"),
        *("--name=test", "--grace_seconds=20", "--sbatch=--spread-job --ntasks-per-node=1"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", *launch, "--", *train],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return re.search(r"Submitted batch job (\d+)", done.stdout)[1]


def job(number: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S*)", said("scontrol", "show", "job", number)))


def finished(number: str) -> bool:
    return job(number)["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


def test_every_rank_gets_its_own_address(slurm):
    program = (
        "import os; from trainer.workers.discovery import discover; print(discover(os.environ))"
    )
    asked = ["srun", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--label"]
    shown = subprocess.run(
        [*asked, sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert shown.returncode == 0, shown.stderr
    nodes = said("scontrol", "show", "hostnames", "node[9,10]").split()
    for line in shown.stdout.splitlines():
        rank = int(line.partition(":")[0])
        hosts = re.findall(r"'([\d.]+):(\d+)'", line)
        assert [host for host, _ in hosts] == [NODES[nodes[i // 2]] for i in range(4)]
        assert len(set(hosts)) == 4
        assert f"index={rank})" in line


def test_srun_gives_the_bits_of_one_process(slurm, weights_on_one_cpu, data_dir, tmp_path):
    flags = [*TRAIN, f"--data_dir={data_dir}", f"--run_dir={tmp_path / 'run'}"]
    train = [sys.executable, "-m", "scripts.train", *flags, f"--epochs={EPOCHS_TO_KILL}"]
    done = subprocess.run(
        ["srun", "--nodes=2", "--ntasks=2", "--kill-on-bad-exit=1", *train], cwd=ROOT
    )
    assert done.returncode == 0
    assert fingerprint(tmp_path / "run") == weights_on_one_cpu


def test_a_killed_rank_ends_the_job_which_requeues_itself(
    slurm,
    weights_on_one_cpu,
    data_dir,
    tmp_path,
):
    run = tmp_path / "run"
    number = submit(
        *(tmp_path, f"--data_dir={data_dir}", f"--run_dir={run}"), epochs=EPOCHS_TO_KILL
    )
    until(lambda: steps_done(run) >= 20)
    ranks = said("pgrep", "-f", f"scripts.train.*--run_dir={run}").split()
    workers = [int(p) for p in ranks if _variable(p, "SLURM_PROCID") == "1"]
    os.kill(workers[0], signal.SIGKILL)
    until(lambda: finished(number))
    assert job(number)["JobState"] == "COMPLETED"
    assert job(number)["Restarts"] == "1"
    assert fingerprint(run) == weights_on_one_cpu


def test_a_requeued_job_goes_on(slurm, weights_on_one_cpu, data_dir, tmp_path):
    """As before a time limit: Slurm's SIGTERM to the tasks, exit code 75, the queue, the end."""
    run = tmp_path / "run"
    number = submit(
        *(tmp_path, f"--data_dir={data_dir}", f"--run_dir={run}"), epochs=EPOCHS_TO_KILL
    )
    until(lambda: steps_done(run) >= 20)
    subprocess.run(["scancel", "--signal=TERM", number], check=True)  # the tasks, not the script
    until(lambda: finished(number))
    assert job(number)["JobState"] == "COMPLETED"
    assert job(number)["Restarts"] == "1"
    assert "stopped by SIGTERM after step" in (tmp_path / f"test-{number}.log").read_text()
    assert fingerprint(run) == weights_on_one_cpu


def _variable(process: str, name: str) -> str | None:
    pairs = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    found = dict(pair.decode().partition("=")[::2] for pair in pairs if pair)
    return found.get(name)
