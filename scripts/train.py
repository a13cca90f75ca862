"""Train an image classifier. Running the same command again goes on where the run was stopped.

samestep-train --data_dir=DATA --run_dir=RUN --model=cnn --global_batch_size=64 --epochs=5
"""

from typing import NoReturn

from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer.config import Config, Hardware


def main() -> NoReturn:
    enter(__doc__, train, Config, Hardware)


def train(config: Config, hardware: Hardware) -> None:
    quiet_tensorflow()
    from trainer import loop

    loop.fit(config, hardware)


if __name__ == "__main__":
    main()
