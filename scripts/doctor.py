"""Check devices, records, model and step before a run; takes the flags of samestep-train.

samestep-doctor --data_dir=DATA --model=cnn --global_batch_size=64
"""

from typing import NoReturn

from input.foundation.text import one_line
from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer.config import Config, Examination, Hardware


def main() -> NoReturn:
    enter(__doc__, examine, Config, Hardware, Examination, required=("data_dir",))


def examine(config: Config, hardware: Hardware, examination: Examination) -> None:
    from trainer import preflight

    cluster = preflight.check(config, hardware)
    quiet_tensorflow(say=cluster.index == 0)
    from trainer import doctor

    for check, found in doctor.examine(config, hardware, examination.trace_gpus):
        print(one_line(f"ok  {check:<12}{found}"), flush=True)


if __name__ == "__main__":
    main()
