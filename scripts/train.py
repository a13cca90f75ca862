"""Train an image classifier. Running the same command again goes on where the run was stopped.

samestep-train --data_dir=DATA --run_dir=RUN --model=cnn --global_batch_size=64 --epochs=5
"""

import dataclasses
import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

from scripts.doorway import enter
from scripts.quiet import LOADING, quiet_tensorflow
from trainer.checks.finding import EXIT_CODES
from trainer.config import Config, Hardware


def main() -> NoReturn:
    enter(__doc__, train, Config, Hardware, required=("data_dir", "run_dir"))


def train(config: Config, hardware: Hardware) -> None:
    from trainer import preflight

    cluster = preflight.check_training(config, hardware)
    quiet_tensorflow(say=cluster.index == 0)
    from trainer import loop

    if config.input.tries_sizes:
        config = _with_largest_micro_batch(config, hardware)
    loop.fit(config, hardware)


def _with_largest_micro_batch(config: Config, hardware: Hardware) -> Config:
    """For a new run of one worker; any other is as it was begun, or refuses the word."""
    from trainer import probe, run_dir
    from trainer.workers import discovery, strategy

    several = len(discovery.discover(os.environ).addresses) > 1
    if several or run_dir.find(config.run.run_dir) is not None:
        return config
    devices = strategy.device_names(hardware.virtual_cpus, hardware.gpus, hardware.virtual_gpus)
    size = probe.largest(
        config.input.global_batch_size, len(devices), _why_not, partial(print, flush=True)
    )
    inputs = dataclasses.replace(config.input, micro_batch_size=size)
    return dataclasses.replace(config, input=inputs)


def _why_not(micro_batch_size: int) -> str:
    """Makes one step with the flags of this process in another one; why that failed, or ""."""
    own = [f"--micro_batch_size={micro_batch_size}", "--run_dir=", "--checks=run", "--json"]
    tried = subprocess.run(
        [sys.executable, "-m", "scripts.doctor", *sys.argv[1:], *own],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        preexec_fn=_within_this_memory,
    )
    if tried.returncode in (EXIT_CODES["ok"], EXIT_CODES["warning"]):
        return ""
    lines = [line for line in tried.stderr.splitlines() if line not in ("", LOADING)]
    lines = lines or ["it was killed"]
    said = next((line for line in lines if line.startswith("error: ")), lines[-1])
    if tried.returncode == EXIT_CODES["wrong"] and tried.stdout:
        checks = json.loads(tried.stdout)["checks"]
        said = next(each["found"] for each in checks if each["verdict"] == "wrong")
    if (
        tried.returncode == EXIT_CODES["wrong"]
        and "memory" not in said.lower()
        and "OOM" not in said
    ):
        from trainer.errors import TrainerError

        raise TrainerError(said.removeprefix("error: "))
    return f"exit code {tried.returncode}, {said[:200]}"


def _within_this_memory() -> None:
    """In the new process: more than is free is refused, and nobody else is killed for it."""
    available = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    resource.setrlimit(resource.RLIMIT_DATA, (available, available))


if __name__ == "__main__":
    main()
