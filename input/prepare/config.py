"""The settings of samestep-records: write, index, verify, show. No TensorFlow here."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

from input import order
from input.config import InputConfig, ResolvedInput
from input.errors import InputError
from input.foundation.settings import REQUIRED, AtLeast, AtMost, check
from input.splits import SPLITS, chosen, split_of

_Splits = Annotated[
    str, "Splits to take, as in train,validation; others are left out. Unset: all that are there."
]


def _shape(raw_shape: str) -> tuple[int, int, int] | None:
    if not raw_shape:
        return None
    try:
        height, width, channels = (int(number) for number in raw_shape.split(","))
    except ValueError:
        height = width = channels = 0
    if min(height, width) < 1 or channels not in (1, 3):
        raise InputError(
            f"--raw_shape={raw_shape} is not height,width,channels with 1 or 3 channels."
        )
    return height, width, channels


@dataclass(frozen=True)
class WriteConfig:
    """One conversion of class folders into records."""

    images: Annotated[
        str,
        "Folder of class folders (DIR/cat/1.jpg), or of splits of them (DIR/train/cat/1.jpg, "
        "DIR/validation/cat/1.jpg), or a .zip, .tar or .tar.gz of them; or FILE.csv or FILE.jsonl "
        "with the columns path,label and, optionally, split; or FILE.npz with images "
        "uint8[n,h,w,3] and labels[n], or FILE.npy of images with --labels; or a folder of MNIST's "
        "IDX files; or one of TFRecords of tf.train.Examples.",
        REQUIRED,
    ] = ""
    out: Annotated[str, "Folder to write; gets one folder of shards per split.", REQUIRED] = ""
    shards: Annotated[
        int | None, "Shards per split. Unset: one per 128 MiB of images.", AtLeast(1)
    ] = None
    split: Annotated[
        str, "How images without splits are divided, class by class: name:share,name:share."
    ] = "train:0.9,validation:0.1"
    splits: _Splits = ""
    seed: Annotated[int, "Seed of the split and of the shuffle over shards."] = 0
    encoding: Annotated[
        Literal["keep", "jpeg", "raw"],
        "keep: JPEG and PNG as they are, other formats as PNG; jpeg: all as JPEG; raw: uint8 "
        "pixels, larger and faster to read.",
    ] = "keep"
    short_side: Annotated[
        int | None, "Downscale larger images to this short side, in pixels.", AtLeast(1)
    ] = None
    quality: Annotated[
        # Above 95 JPEG files only grow (libjpeg's own advice).
        int,
        "JPEG quality of images that are encoded again.",
        AtLeast(1),
        AtMost(95),
    ] = 90
    max_pixels: Annotated[
        int,
        "Images with more pixels are bad: a small file can hold more pixels than fit into memory.",
        AtLeast(1),
    ] = InputConfig.max_pixels
    jobs: Annotated[
        int | None, "Images read and checked at the same time. Unset: one per core.", AtLeast(1)
    ] = None
    max_bad_images: Annotated[
        int,
        "Unreadable files allowed: each is listed and left out. More stop the write.",
        AtLeast(0),
    ] = 0

    labels: Annotated[str, "FILE.npy of labels[n], for images in a FILE.npy."] = ""
    image_key: Annotated[
        str, "In TFRecords: feature that holds the image. Unset: image/encoded, image, .."
    ] = ""
    label_key: Annotated[
        str, "In TFRecords: feature that holds the label. Unset: image/class/label, label, .."
    ] = ""
    raw_shape: Annotated[
        str, "In TFRecords: height,width,channels of pixels, where no features say them."
    ] = ""

    def __post_init__(self) -> None:
        check(self, InputError)
        self.shape()
        self.shares()
        chosen(self.splits, SPLITS)

    def shape(self) -> tuple[int, int, int] | None:
        """`raw_shape` as numbers. Raises InputError."""
        return _shape(self.raw_shape)

    def shares(self) -> dict[str, Fraction]:
        """`split` as name -> share; the shares sum to exactly 1. Raises InputError."""
        parts = [part.strip().partition(":") for part in self.split.split(",")]
        names = [split for name, _, _ in parts if (split := split_of(name))]
        try:
            shares = [Fraction(share) for _, _, share in parts]
        except (ValueError, ZeroDivisionError):
            shares = []
        if not len(set(names)) == len(shares) == len(parts) or min(shares) <= 0:
            raise InputError(
                f"--split={self.split} is not name:share,name:share, with each of "
                "train, validation and test at most once and shares above 0."
            )
        total = sum(shares, Fraction())
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
        REQUIRED,
    ] = ""
    out: Annotated[str, "Folder for manifests and indexes. Unset: the same folder."] = ""
    image_key: Annotated[str, "Feature that holds the image."] = "image/encoded"
    label_key: Annotated[str, "Feature that holds the label, one integer."] = "image/class/label"
    label_offset: Annotated[int, "Added to each label; -1 where they start at 1."] = 0
    raw_dtype: Annotated[
        Literal["uint8", "float32"] | None,
        "Data type of raw pixels. Unset: the images are JPEG or PNG.",
    ] = None
    raw_shape: Annotated[str, "Shape of every raw image: height,width,channels."] = ""
    classes: Annotated[
        str,
        "File of class names, one a line. Unset: a *labels.txt or *names.txt beside the shards, "
        "else numbers.",
    ] = ""
    splits: _Splits = ""
    max_bad_records: Annotated[
        int,
        "Bad records allowed: each is listed, and indexed, so that training needs as many.",
        AtLeast(0),
    ] = 0

    def __post_init__(self) -> None:
        check(self, InputError)
        chosen(self.splits, SPLITS)
        if bool(self.raw_shape) != (self.raw_dtype is not None):
            raise InputError("--raw_dtype and --raw_shape belong together: set both or none.")
        self.shape()

    def shape(self) -> tuple[int, int, int] | None:
        """`raw_shape` as numbers. Raises InputError."""
        return _shape(self.raw_shape)


@dataclass(frozen=True)
class VerifyConfig:
    """Which records to check."""

    dir: Annotated[str, "Folder of splits, or of one split.", REQUIRED] = ""
    jobs: Annotated[
        int | None, "Blocks of records checked at the same time. Unset: one per core.", AtLeast(1)
    ] = None
    max_pixels: Annotated[int, "Images with more pixels are bad.", AtLeast(1)] = (
        InputConfig.max_pixels
    )

    def __post_init__(self) -> None:
        check(self, InputError)


@dataclass(frozen=True)
class ShowConfig:
    """Which records to look at."""

    dir: Annotated[str, "Folder of splits, or of one split.", REQUIRED] = ""
    sheet: Annotated[
        str, "PNG file to write: images of each class, as evaluation and as training see them."
    ] = ""
    html: Annotated[str, "HTML file to write: the same, with all images inside."] = ""
    per_class: Annotated[int, "Images of each class on the sheet.", AtLeast(1)] = 6
    image_size: Annotated[int, "Height and width of the images, in pixels.", AtLeast(1)] = 96
    augment: Annotated[str | None, "As of samestep-train; epoch 0 of --seed."] = None
    crop_min_area: Annotated[float | None, "As of samestep-train."] = None
    eval_crop: Annotated[float, "As of samestep-train."] = InputConfig.eval_crop
    seed: Annotated[int, "As of samestep-train."] = 0

    def __post_init__(self) -> None:
        check(self, InputError)
        self.views()

    def views(self) -> ResolvedInput:
        """The settings of the views, checked. Raises InputError."""
        inputs = InputConfig(
            image_size=self.image_size,
            augment=self.augment,
            crop_min_area=self.crop_min_area,
            eval_crop=self.eval_crop,
        )
        return order.resolve(inputs, records_size=None)
