"""The settings of samestep-benchmark. No TensorFlow here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from input.foundation.settings import AtLeast, check
from trainer.errors import TrainerError

NAMES: tuple[str, ...] = ("loop", "fit", "exact", "step", "receipt", "monitoring", "batching")
NAMES += ("input", "gil", "reader", "start", "index", "gpu")
ON_CPU = NAMES[:-1]
ON_PHOTOGRAPHS = ("input", "gil")


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure."""

    what: Annotated[
        Literal[
            "all",
            "loop",
            "fit",
            "exact",
            "step",
            "receipt",
            "monitoring",
            "batching",
            "input",
            "gil",
            "reader",
            "start",
            "index",
            "gpu",
        ],
        "all: all but gpu; loop: the real loop against the traced step alone; fit: the step "
        "against Keras fit; exact: the exact sum against float32 sums on ResNet-50; step: "
        "ResNet-50 in each precision against Keras fit and a bare forward and backward; receipt: "
        "what --hash_every costs; monitoring: what all costs that a run shows and records; "
        "batching: micro-batches that the pipeline makes against a batch that is cut later; "
        "input: the pipeline against TensorFlow idioms and decoding alone; gil: how long a "
        "reading thread holds Python's lock, and what more threads give; reader: records in "
        "random order against others; start: at step 10**9 against step 0; index: memory and time "
        "of 10**4 to 10**8 records; gpu: ResNet-50 on the first GPU, the exact sum against "
        "float32 sums and Keras fit.",
    ] = "all"
    images: Annotated[str, "Folder of JPEG photographs for --what=input and gil."] = ""
    image_size: Annotated[
        int, "Height and width of the images of --what=input and gpu, in pixels.", AtLeast(1)
    ] = 224
    deterministic: Annotated[
        bool, "Measure --what=gpu under TensorFlow's op determinism, Keras fit too."
    ] = False
    rounds: Annotated[int, "Paired runs; medians are shown.", AtLeast(1)] = 7
    json: Annotated[str, "File to write the figures to."] = ""
    markdown: Annotated[str, "File to write the tables to."] = ""

    def __post_init__(self) -> None:
        check(self, TrainerError)
        if self.images and not Path(self.images).is_dir():
            raise TrainerError(f"--images={self.images} is not a folder.")
        if self.what in ON_PHOTOGRAPHS and not self.images:
            raise TrainerError(f"--what={self.what} needs --images=DIR with JPEG photographs.")
