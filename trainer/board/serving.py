"""The program that `server` starts: TensorBoard on a free port of loopback.

Imports nothing of ours.

python -P trainer/board/serving.py FOLDER, until its stdin is closed.
"""

import os
import sys
from types import ModuleType

from tensorboard import default, program


def main() -> None:
    # With it TensorBoard reads files by itself and does not import TensorFlow, which would take
    # 360 MiB and seconds of a core beside the training (tensorboard/compat/__init__.py).
    sys.modules["tensorboard.compat.notf"] = ModuleType("notf")
    board = program.TensorBoard(default.get_plugins())
    # 6006, or the next port that is free.
    board.configure(argv=[sys.argv[0], "--logdir", sys.argv[1], "--host", "127.0.0.1"])
    print(board.launch(), flush=True)
    sys.stdin.read()
    os._exit(0)  # not waiting for requests that are being answered


if __name__ == "__main__":
    main()
