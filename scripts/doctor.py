"""Check versions, machine, records, model and step before a run; takes the flags of samestep-train.

samestep-doctor --data_dir=DATA --model=cnn --global_batch_size=64

Each line is ok, a warning (a run works, but slower or less safely than it could) or wrong, with the
way out. Exit codes: 0 all ok, 3 warnings, 2 something is wrong, and then what depends on it is not
looked at.
"""

import json
import os
from collections.abc import Iterator
from typing import NoReturn

from input.foundation.errors import UserError
from input.foundation.text import one_line
from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer.checks.examination import Examination
from trainer.checks.finding import EXIT_CODES, Finding, worst, wrong
from trainer.config import Config, Hardware


def main() -> NoReturn:
    enter(__doc__, examine, Config, Hardware, Examination)


def examine(config: Config, hardware: Hardware, examination: Examination) -> int:
    found = []
    for finding in _findings(config, hardware, examination):
        found.append(finding)
        if not examination.json:
            print(one_line(str(finding)), flush=True)
    verdict = worst(found)
    if examination.json:
        print(json.dumps({"verdict": verdict, "checks": [f._asdict() for f in found]}, indent=1))
    return EXIT_CODES[verdict]


def _findings(config: Config, hardware: Hardware, examination: Examination) -> Iterator[Finding]:
    rate = None
    if examination.checks == "all":
        from trainer.checks.early import Early

        first = Early(config, os.environ)
        yield from first.examine()
        if not first.sound:
            return
        rate = first.read_per_second
    try:
        quiet_tensorflow()
        from trainer import doctor
    except UserError as error:
        yield wrong("TensorFlow", error)
    except Exception as error:  # a package that does not fit may raise anything
        reason = f"{type(error).__name__}: {error}"
        yield Finding("TensorFlow", "wrong", f"{reason}. Install it anew: pip install -e .")
    else:
        yield from doctor.examine(config, hardware, examination, rate)


if __name__ == "__main__":
    main()
