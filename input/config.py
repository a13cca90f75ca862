"""The settings of the input that belong to a run. No TensorFlow here."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from input.errors import InputError
from input.foundation.settings import MOST_USED, Above, AtLeast, AtMost, Below, Section, check

# Fields with compare=False may differ from one launch of a run to the next: they do not change
# which images are trained on, in which order, or how they look.


class Policy(NamedTuple):
    """RandAugment or TrivialAugment in numbers."""

    layers: int  # operations on each image
    magnitude: int | None  # 0 to 30; None: drawn


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """Records, batch and augmentation of a run."""

    data_dir: Annotated[
        str,
        "Folder with the splits train/ and validation/, as samestep-records writes them; "
        "--validation_split and --validation_share do without validation/.",
        Section("Records"),
        MOST_USED,
    ] = field(default="", compare=False)
    global_batch_size: Annotated[
        int,
        "Images per optimizer step, all replicas together.",
        AtLeast(1),
        Section("Batch"),
        MOST_USED,
    ] = 256
    micro_batch_size: Annotated[
        int | Literal["auto"] | None,
        "Images that go through the model at once; BatchNorm's batch. Unset: the largest divisor "
        "of --global_batch_size up to 32, on any hardware. auto: the largest that fits here, tried "
        "in processes of their own before a new run; kept from then on.",
        AtLeast(1),
    ] = None
    image_size: Annotated[
        int | None,
        "Height and width the model sees, in pixels. Unset: the size of the records where all are "
        "one square size, else 224.",
        AtLeast(1),
        Section("Images and augmentation"),
    ] = None
    augment: Annotated[
        str | None,
        "none; crop: random resized crop; standard: crop and a horizontal flip half the time; "
        "rand-m9-n2: standard and RandAugment of magnitude 9 (0 to 30), 2 operations; trivial: "
        "standard and TrivialAugment. Unset: crop below 128 pixels, where images are digits and "
        "letters as often as not, which a mirror makes into others; standard from there on.",
    ] = None
    crop_min_area: Annotated[
        float | None,
        "Smallest random crop, as a fraction of the image's area. Unset: 0.08 from 128 pixels on, "
        "0.7 below, where less of an image shows nothing.",
        Above(0),
        AtMost(1),
    ] = None
    color_jitter: Annotated[
        float,
        "Strength of random changes of brightness, contrast and saturation; 0.4 is usual.",
        AtLeast(0),
        Below(10),
    ] = 0.0
    erasing: Annotated[
        float, "Probability that a grey rectangle covers a part of an image.", AtLeast(0), AtMost(1)
    ] = 0.0
    mixup: Annotated[
        float,
        "Alpha of mixup: images and labels blended in pairs. 0.2 is usual, 0 is off.",
        AtLeast(0),
        AtMost(1),
    ] = 0.0
    cutmix: Annotated[
        float,
        "Alpha of CutMix: a square of another image, and the same fraction of its label. 0 is off. "
        "With mixup: each for half of the micro-batches.",
        AtLeast(0),
        AtMost(1),
    ] = 0.0
    repeated_augmentation: Annotated[
        int,
        "Views of each record in a step, in different micro-batches where there are as many; an "
        "epoch has as many images as without, and so fewer records. 3 is usual for vit.",
        AtLeast(1),
    ] = 1
    eval_crop: Annotated[
        float,
        "Side of the central square that evaluation sees, as a fraction of the short side.",
        Above(0),
        AtMost(1),
    ] = 1.0
    antialias: Annotated[
        bool,
        "Average what a smaller view leaves out, as Pillow and torchvision do; slower.",
    ] = False
    decoder: Annotated[
        Literal["auto", "native", "tensorflow"],
        "What decodes the images. native is faster and needs libjpeg-turbo where samestep is "
        "installed; the two differ by up to 2 levels. auto: native where it is there; kept from "
        "the first launch on.",
        Section("Records"),
    ] = "auto"
    validation_split: Annotated[
        Literal["validation", "test"], "Split that is evaluated on while training."
    ] = "validation"
    validation_share: Annotated[
        float,
        "Fraction of train that is held back to be evaluated on instead, chosen by --seed and each "
        "record's content. 0: none.",
        AtLeast(0),
        Below(1),
    ] = 0.0
    read_block: Annotated[
        int,
        "Neighbouring records that stay together in the random order, so that one read serves "
        "them: for network file systems. 1 is a perfect shuffle.",
        AtLeast(1),
    ] = 1
    max_pixels: Annotated[
        int,
        "Images with more pixels are bad records, by their header: a small one can hold more than "
        "fits into memory.",
        AtLeast(1),
    ] = field(default=89_478_485, compare=False)  # Pillow's own limit: 256 MiB of RGB
    max_bad_records: Annotated[
        int,
        "Bad records allowed: each is logged and counts with weight 0. More stop the run.",
        AtLeast(0),
    ] = field(default=0, compare=False)

    @property
    def policy(self) -> Policy:
        """The operations that `augment` asks for. Raises InputError."""
        if self.augment in (None, "none", "crop", "standard"):
            return Policy(0, None)
        if self.augment == "trivial":
            return Policy(1, None)
        rand = re.fullmatch(r"rand-m(\d|[12]\d|30)-n([1-9])", self.augment)
        if rand is None:
            raise InputError(
                f"--augment={self.augment}: it must be none, crop, standard, trivial or "
                "rand-mM-nN with M from 0 to 30 and N from 1 to 9, as in rand-m9-n2."
            )
        return Policy(layers=int(rand[2]), magnitude=int(rand[1]))

    @property
    def tries_sizes(self) -> bool:
        """Whether the micro-batch is to be the largest that fits."""
        return self.micro_batch_size == "auto"

    @property
    def soft_labels(self) -> bool:
        """Whether a label is a weight for each class, float32[M, classes], and not a number."""
        return self.mixup > 0 or self.cutmix > 0

    def __post_init__(self) -> None:
        check(self, InputError)
        given = self.micro_batch_size if isinstance(self.micro_batch_size, int) else None
        if given is not None and self.global_batch_size % given:
            raise InputError(
                f"{self.global_batch_size} images a step do not divide into micro-batches of "
                f"{self.micro_batch_size}. Set --micro_batch_size to a divisor of "
                f"{self.global_batch_size}, or leave it unset."
            )
        if self.global_batch_size % self.repeated_augmentation:
            raise InputError(
                f"{self.global_batch_size} images a step do not divide into "
                f"--repeated_augmentation={self.repeated_augmentation} views of each record. Set "
                f"it to a divisor of {self.global_batch_size}."
            )
        if self.validation_share and self.validation_split != InputConfig.validation_split:
            raise InputError(
                "--validation_split and --validation_share are two ways to the same end. Leave one "
                "of them out."
            )
        _ = self.policy  # checks augment
        if self.soft_labels and self.micro_batch_size == 1:
            raise InputError(
                "--mixup and --cutmix need micro-batches of 2 or more images. Set "
                "--micro_batch_size, or leave them out."
            )


@dataclass(frozen=True, kw_only=True)
class ResolvedInput(InputConfig):
    """An InputConfig in which nothing is unset."""

    # field(): else the default of InputConfig would be theirs.
    micro_batch_size: Annotated[int, "As of InputConfig.", AtLeast(1)] = field()
    image_size: Annotated[int, "As of InputConfig.", AtLeast(1)] = field()
    augment: Annotated[str, "As of InputConfig."] = "standard"
    crop_min_area: Annotated[float, "As of InputConfig.", Above(0), AtMost(1)] = 0.08
    decoder: Annotated[Literal["native", "tensorflow"], "As of InputConfig."] = "tensorflow"
