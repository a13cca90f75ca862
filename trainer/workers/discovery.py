"""Which workers a run has, and which of them this process is. No TensorFlow.

Read from the environment, and turned into the one form that TensorFlow knows, TF_CONFIG:

- TF_CONFIG itself, as samestep-launch --where=local, Ray Train and people set it;
- Slurm's variables, in a task of srun;
- WORKERS_VARIABLE, ADDRESS_VARIABLE and an indexed Job's JOB_COMPLETION_INDEX, as the JobSet of
  samestep-launch --where=kubernetes sets them;
- none of these: one worker.
"""

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.errors import TrainerError

WORKERS_VARIABLE = "SAMESTEP_WORKERS"  # how many there are
ADDRESS_VARIABLE = "SAMESTEP_WORKER_ADDRESS"  # host:port of each, {} standing for its number
# Below the ports that Linux gives to outgoing connections (32768), above well-known services.
SLURM_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Cluster:
    """The workers of a run."""

    addresses: tuple[str, ...]  # host:port of each, in the order of their numbers
    index: int  # of this process

    def tf_config(self) -> str:
        """As TensorFlow reads it from the environment."""
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": list(self.addresses)}, "task": task})


def discover(environ: Mapping[str, str], scontrol: Callable[..., str] | None = None) -> Cluster:
    """The workers that the environment describes; where it describes none, one without an address.

    environ: os.environ. scontrol: arguments -> what Slurm's command prints; unset: the real one.
    Raises TrainerError.
    """
    if environ.get("TF_CONFIG"):
        cluster = _from_tf_config(environ["TF_CONFIG"])
    elif int(environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        cluster = _from_slurm(environ, scontrol or _scontrol)
    elif environ.get(WORKERS_VARIABLE):
        cluster = _from_index(environ)
    else:
        return Cluster(("",), 0)
    twice = {address for address in cluster.addresses if cluster.addresses.count(address) > 1}
    if twice:
        raise TrainerError(f"Two workers have the address {min(twice)}. Each needs its own port.")
    return cluster


def _from_tf_config(text: str) -> Cluster:
    def wrong(what: str) -> TrainerError:
        return TrainerError(
            f"TF_CONFIG {what}. It should be like "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            '"task": {"type": "worker", "index": 0}}; this is ' + text
        )

    try:
        content = json.loads(text)
        jobs: dict[str, Sequence[str]] = content.get("cluster", {})
        task: dict[str, Any] = content.get("task", {})
        if not jobs:
            return Cluster(("",), 0)
        if not set(jobs) <= {"chief", "worker"}:
            raise wrong(f"has {', '.join(sorted(set(jobs) - {'chief', 'worker'}))}, not workers")
        first = {"chief": 0, "worker": len(jobs.get("chief", ()))}
        index = int(task["index"])
        if not 0 <= index < len(jobs[task["type"]]):
            raise wrong(f"has no {task['type']} {index}")
        addresses = (*jobs.get("chief", ()), *jobs.get("worker", ()))
        if not all(re.fullmatch(r".+:\d+", address) for address in addresses):
            raise wrong("has an address that is not host:port")
        return Cluster(addresses, first[task["type"]] + index)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, TrainerError):
            raise
        raise wrong(f"cannot be read: {error!r}") from None


def _from_slurm(environ: Mapping[str, str], scontrol: Callable[..., str]) -> Cluster:
    """Every task of the step, at the address by which Slurm itself reaches its node.

    TensorFlow's SlurmClusterResolver sorts the nodes' names as text, node10 before node9.
    """
    try:
        nodes = environ["SLURM_STEP_NODELIST"]
        tasks = int(environ["SLURM_STEP_NUM_TASKS"])
        index, node_index = (int(environ[f"SLURM_{name}"]) for name in ("PROCID", "NODEID"))
        counts = _expand(environ["SLURM_STEP_TASKS_PER_NODE"])
        seed = int(environ["SLURM_JOB_ID"]) * 64 + int(environ["SLURM_STEP_ID"])
    except (KeyError, ValueError) as error:
        raise TrainerError(f"Slurm's variables are incomplete: {error!r}.") from None
    names = scontrol("show", "hostnames", nodes).split()
    described = scontrol("--oneliner", "show", "node", nodes)
    found = dict(re.findall(r"^NodeName=(\S+) .*?\bNodeAddr=(\S+)", described, re.MULTILINE))
    places = _places(counts, environ.get("SLURM_DISTRIBUTION", "block"))
    if len(places) != tasks or len(names) != len(counts) or places[index][0] != node_index:
        raise TrainerError(
            f"Slurm's tasks cannot be told apart: {tasks} on {nodes}, {counts} a node. Use srun "
            "with --distribution=block."
        )
    ports = [SLURM_PORTS[(seed + task) % len(SLURM_PORTS)] for task in range(tasks)]
    hosts = [found.get(names[node], names[node]) for node, _ in places]
    return Cluster(tuple(f"{h}:{p}" for h, p in zip(hosts, ports, strict=True)), index)


def _expand(counts: str) -> list[int]:
    """2(x3),1 -> [2, 2, 2, 1]: Slurm's way to write tasks per node."""
    expanded = []
    for part in counts.split(","):
        count, _, times = part.partition("(x")
        expanded += [int(count)] * int(times.rstrip(")") or 1)
    return expanded


def _places(counts: Sequence[int], distribution: str) -> list[tuple[int, int]]:
    """(node, place on it) of every task, in the order of their numbers."""
    filled = [(node, place) for node, count in enumerate(counts) for place in range(count)]
    if distribution.startswith("cyclic"):  # one for each node in turn
        return sorted(filled, key=lambda task: (task[1], task[0]))
    return filled


def _scontrol(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["scontrol", *arguments], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise TrainerError(f"scontrol, which knows Slurm's nodes, fails: {said.strip()}") from None
    return done.stdout


def _from_index(environ: Mapping[str, str]) -> Cluster:
    try:
        workers = int(environ[WORKERS_VARIABLE])
        template = environ[ADDRESS_VARIABLE]
        index = int(environ["JOB_COMPLETION_INDEX"])
    except (KeyError, ValueError) as error:
        raise TrainerError(
            f"{WORKERS_VARIABLE} is set; {ADDRESS_VARIABLE} (as in job-{{}}.job:2222) and "
            f"JOB_COMPLETION_INDEX must be too: {error!r}."
        ) from None
    if not 0 <= index < workers or "{}" not in template:
        raise TrainerError(
            f"Worker {index} of {workers} at {template}: the number must be below {workers}, and "
            f"{ADDRESS_VARIABLE} have a {{}} for it."
        )
    return Cluster(tuple(template.replace("{}", str(i)) for i in range(workers)), index)
