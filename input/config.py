"""Every setting of the input, checked when it is made. No TensorFlow here."""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Literal, NamedTuple

from input.errors import InputError

# Fields with compare=False may differ from one launch of a run to the next: they do not change
# which images are trained on, in which order, or how they look.


class Policy(NamedTuple):
    """RandAugment or TrivialAugment in numbers."""

    layers: int  # operations on each image
    magnitude: int | None  # 0 to 30; None: drawn


@dataclass(frozen=True)
class InputConfig:
    """Records, batch and augmentation of a run."""

    data_dir: Annotated[
        str, "Folder with the splits train/ and validation/ as samestep-records writes them."
    ] = field(default="", compare=False)
    global_batch_size: Annotated[int, "Images per optimizer step, all replicas together."] = 256
    micro_batch_size: Annotated[
        int | None,
        "Images that go through the model at once. Unset: global_batch_size / replicas at the "
        "first launch, kept from then on.",
    ] = None
    image_size: Annotated[
        int | None,
        "Height and width the model sees. Unset: the size of the records where all are one "
        "square size, else 224.",
    ] = None
    augment: Annotated[
        str,
        "none; crop: random resized crop; standard: that and a mirror image half the time; "
        "rand-m9-n2: that and RandAugment of magnitude 9 (0 to 30), 2 operations; trivial: "
        "standard and TrivialAugment.",
    ] = "standard"
    crop_min_area: Annotated[float, "Smallest random crop, as a share of the image's area."] = 0.08
    color_jitter: Annotated[
        float, "Strength of random changes of brightness, contrast and saturation; 0.4 is usual."
    ] = 0.0
    erasing: Annotated[float, "Probability of a grey rectangle somewhere on an image."] = 0.0
    mixup: Annotated[
        float, "Alpha of mixup, 0 to 1: images and labels blended in pairs. 0.2 is usual."
    ] = 0.0
    cutmix: Annotated[
        float,
        "Alpha of CutMix, 0 to 1: a square of another image, and its share of the label. With "
        "mixup: each for half of the micro-batches.",
    ] = 0.0
    eval_crop: Annotated[
        float, "Side of the central square that evaluation sees, as a share of the short side."
    ] = 1.0
    read_block: Annotated[
        int,
        "Neighbouring records that stay together in the random order, so that one read serves "
        "them: for network file systems. 1 is a perfect shuffle.",
    ] = 1
    max_bad_records: Annotated[
        int, "Bad records allowed: each is logged and counts with weight 0. More stop the run."
    ] = field(default=0, compare=False)

    @property
    def policy(self) -> Policy:
        """The operations that `augment` asks for. Raises InputError."""
        if self.augment in ("none", "crop", "standard"):
            return Policy(0, None)
        if self.augment == "trivial":
            return Policy(1, None)
        rand = re.fullmatch(r"rand-m(\d|[12]\d|30)-n([1-9])", self.augment)
        if rand is None:
            raise InputError(
                f"--augment={self.augment} is none of none, crop, standard, trivial and "
                "rand-mM-nN with M from 0 to 30 and N from 1 to 9."
            )
        return Policy(layers=int(rand[2]), magnitude=int(rand[1]))

    @property
    def mixes(self) -> bool:
        """Whether a label is a share of each class, float32[M, classes], and no number."""
        return self.mixup > 0 or self.cutmix > 0

    def __post_init__(self):
        if self.global_batch_size < 1:
            raise InputError(
                f"--global_batch_size must be 1 or more, not {self.global_batch_size}."
            )
        if self.micro_batch_size is not None and (
            self.micro_batch_size < 1 or self.global_batch_size % self.micro_batch_size
        ):
            raise InputError(
                f"{self.global_batch_size} images a step do not divide into micro-batches of "
                f"{self.micro_batch_size}. Set --micro_batch_size to a divisor of "
                f"{self.global_batch_size}, or leave it unset."
            )
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"--image_size must be 1 or more, not {self.image_size}.")
        for name in ("crop_min_area", "eval_crop"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InputError(
                    f"--{name} must be above 0 and at most 1, not {getattr(self, name)}."
                )
        _ = self.policy  # checks augment
        if not 0.0 <= self.color_jitter < 10.0:
            raise InputError(
                f"--color_jitter must be at least 0 and below 10, not {self.color_jitter}."
            )
        for name in ("erasing", "mixup", "cutmix"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"--{name} must be 0 to 1, not {getattr(self, name)}.")
        if (self.mixup or self.cutmix) and self.micro_batch_size == 1:
            raise InputError(
                "--mixup and --cutmix need micro-batches of 2 or more images. Set "
                "--micro_batch_size, or leave them away."
            )
        if self.read_block < 1:
            raise InputError(f"--read_block must be 1 or more, not {self.read_block}.")
        if self.max_bad_records < 0:
            raise InputError(f"--max_bad_records must be 0 or more, not {self.max_bad_records}.")


# A folder's or share's name -> the split it is.
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class WriteConfig:
    """One conversion of class folders into records."""

    images: Annotated[
        str,
        "Folder of class folders (DIR/cat/1.jpg), or of splits of them (DIR/train/cat/1.jpg, "
        "DIR/validation/cat/1.jpg); or FILE.csv or FILE.jsonl with the columns path,label and, if "
        "need be, split; or FILE.npz with images uint8[n,h,w,3] and labels[n].",
    ] = ""
    out: Annotated[str, "Folder to write; gets one folder of shards per split."] = ""
    shards: Annotated[int | None, "Shards per split. Unset: one per 128 MiB of images."] = None
    split: Annotated[
        str, "How images without splits are divided, class by class: name:share,name:share."
    ] = "train:0.9,validation:0.1"
    seed: Annotated[int, "Seed of the split and of the shuffle over shards."] = 0
    encoding: Annotated[
        Literal["keep", "jpeg", "raw"],
        "keep: JPEG and PNG as they are, others as PNG; jpeg: all as JPEG; raw: uint8 pixels, "
        "larger and faster to read.",
    ] = "keep"
    short_side: Annotated[
        int | None, "Make larger images smaller, so that their short side has so many pixels."
    ] = None
    quality: Annotated[int, "Of images that are encoded as JPEG, 1 to 95."] = 90
    max_pixels: Annotated[
        int, "Larger images are bad: a small file can hold more pixels than there is memory."
    ] = 89_478_485  # Pillow's own limit: 256 MiB of RGB
    jobs: Annotated[
        int | None, "Images read and checked at the same time. Unset: one per core."
    ] = None
    max_bad_images: Annotated[
        int, "Unreadable files allowed: each is listed and left out. More stop the write."
    ] = 0

    def __post_init__(self):
        if not self.images:
            raise InputError("--images is missing: it names a folder, a CSV, JSONL or .npz file.")
        if not self.out:
            raise InputError("--out is missing: it names a folder.")
        if not 1 <= self.quality <= 95:  # above, JPEG only grows (libjpeg's own advice)
            raise InputError(f"--quality must be 1 to 95, not {self.quality}.")
        for name in ("shards", "jobs", "short_side", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} must be 1 or more, not {value}.")
        if self.max_bad_images < 0:
            raise InputError(f"--max_bad_images must be 0 or more, not {self.max_bad_images}.")
        self.shares()

    def shares(self) -> dict[str, Fraction]:
        """`split` as name -> share; the shares sum to exactly 1. Raises InputError."""
        parts = [part.strip().partition(":") for part in self.split.split(",")]
        names = [SPLITS.get(name) for name, _, _ in parts]
        try:
            shares = [Fraction(share) for _, _, share in parts]
        except (ValueError, ZeroDivisionError):
            shares = []
        if not shares or None in names or len(set(names)) < len(names) or min(shares) <= 0:
            raise InputError(
                f"--split={self.split} is not name:share,name:share, with each of "
                "train, validation and test at most once and shares above 0."
            )
        total = sum(shares)
        if abs(total - 1) > 1e-6:
            raise InputError(f"The shares of --split={self.split} sum to {float(total):g}, not 1.")
        return {name: share / total for name, share in zip(names, shares, strict=True)}


@dataclass(frozen=True)
class IndexConfig:
    """TFRecords of tf.train.Examples that others wrote."""

    dir: Annotated[
        str,
        "Folder of their files, such as train-00000-of-01024 or name-validation.tfrecord, or of "
        "folders train and validation of them.",
    ] = ""
    out: Annotated[str, "Folder for manifests and indexes. Unset: the same."] = ""
    image_key: Annotated[str, "Feature that holds the image."] = "image/encoded"
    label_key: Annotated[str, "Feature that holds the label, one integer."] = "image/class/label"
    label_offset: Annotated[int, "Added to each label; -1 where they start at 1."] = 0
    raw_dtype: Annotated[
        Literal["uint8", "float32"] | None, "Of raw pixels. Unset: the images are JPEG or PNG."
    ] = None
    raw_shape: Annotated[str, "Of every raw image: height,width,channels."] = ""
    classes: Annotated[
        str, "File of class names, one a line. Unset: a *labels.txt in the folder, else numbers."
    ] = ""

    def __post_init__(self):
        if not self.dir:
            raise InputError("--dir is missing: it names a folder of TFRecords.")
        if bool(self.raw_shape) != (self.raw_dtype is not None):
            raise InputError("--raw_dtype and --raw_shape belong together: set both or none.")
        self.shape()

    def shape(self) -> tuple[int, int, int] | None:
        """`raw_shape` as numbers. Raises InputError."""
        if not self.raw_shape:
            return None
        try:
            height, width, channels = (int(number) for number in self.raw_shape.split(","))
        except ValueError:
            height = width = channels = 0
        if min(height, width) < 1 or channels not in (1, 3):
            raise InputError(
                f"--raw_shape={self.raw_shape} is not height,width,channels with 1 or 3 channels."
            )
        return height, width, channels


@dataclass(frozen=True)
class VerifyConfig:
    """Records that are to be checked."""

    dir: Annotated[str, "Folder of splits, or of one split."] = ""
    jobs: Annotated[int | None, "Blocks checked at the same time. Unset: one per core."] = None
    max_pixels: Annotated[int, "Larger images are wrong."] = WriteConfig.max_pixels

    def __post_init__(self):
        if not self.dir:
            raise InputError("--dir is missing: it names a folder of records.")
        for name in ("jobs", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} must be 1 or more, not {value}.")


@dataclass(frozen=True)
class ShowConfig:
    """Records that are to be looked at."""

    dir: Annotated[str, "Folder of splits, or of one split."] = ""
    sheet: Annotated[
        str, "PNG file to write: images of each class, as evaluation and as training see them."
    ] = ""
    html: Annotated[str, "The same as one page with all images inside."] = ""
    per_class: Annotated[int, "Images of each class on the sheet."] = 6
    image_size: Annotated[int, "Their height and width, in pixels."] = 96
    augment: Annotated[str, "As of samestep-train; epoch 0 of --seed."] = InputConfig.augment
    crop_min_area: Annotated[float, "As of samestep-train."] = InputConfig.crop_min_area
    eval_crop: Annotated[float, "As of samestep-train."] = InputConfig.eval_crop
    seed: Annotated[int, "As of samestep-train."] = 0

    def __post_init__(self):
        if not self.dir:
            raise InputError("--dir is missing: it names a folder of records.")
        for name in ("per_class", "image_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be 1 or more, not {getattr(self, name)}.")
        self.views()

    def views(self) -> InputConfig:
        """The settings of the views, checked."""
        return InputConfig(
            image_size=self.image_size,
            augment=self.augment,
            crop_min_area=self.crop_min_area,
            eval_crop=self.eval_crop,
        )
