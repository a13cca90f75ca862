"""Evaluate a run's checkpoint: every record counts once, on any hardware.

samestep-evaluate --run_dir=RUN
"""

from typing import NoReturn

from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer.config import EvaluateConfig, Hardware


def main() -> NoReturn:
    enter(__doc__, evaluate, EvaluateConfig, Hardware)


def evaluate(what: EvaluateConfig, hardware: Hardware) -> None:
    quiet_tensorflow()
    from trainer.evaluate import evaluate_run

    evaluate_run(what, hardware)


if __name__ == "__main__":
    main()
