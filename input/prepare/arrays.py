"""NumPy files, and the IDX files of MNIST -> the images to write."""

import gzip
import re
import zipfile
from pathlib import Path

import numpy as np

from input.arrays import ArrayReader
from input.errors import InputError
from input.foundation import durable
from input.prepare.config import WriteConfig
from input.prepare.sources import UNDIVIDED, Classes, Listing, Source, listing
from input.splits import TEST, chosen, named

# train-images-idx3-ubyte.gz, t10k-labels.idx1-ubyte: yann.lecun.com/exdb/mnist describes them.
_IDX = re.compile(r"(.*?)[-_.]?(images|labels)[-.]idx\d-ubyte(\.gz)?", re.IGNORECASE)


def list_npz(config: WriteConfig) -> Listing:
    """The images of a .npz file: images uint8 [n, h, w], [n, h, w, 1 or 3], labels int [n].

    class_names [classes], text, is optional. Raises InputError.
    """
    path = Path(config.images)
    arrays = _load(path)
    if not isinstance(arrays, dict):
        raise InputError(f"--images={path} is one array, not a .npz file of several.")
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise InputError(
            f"--images={path} has no {' and no '.join(missing)}, only {', '.join(arrays)}. "
            "numpy.savez(FILE, images=.., labels=..) makes one."
        )
    names = [str(name) for name in arrays.get("class_names", ())]
    return _listing(config, {UNDIVIDED: (arrays["images"], arrays["labels"])}, names)


def list_npy(config: WriteConfig) -> Listing:
    """The images of a .npy file, as above, with the labels of another. Raises InputError."""
    if not config.labels:
        raise InputError(f"--images={config.images} needs --labels=FILE.npy.")
    images, labels = _load(Path(config.images)), _load(Path(config.labels))
    if isinstance(images, dict) or isinstance(labels, dict):
        raise InputError(f"--images={config.images} and --labels must be one array each.")
    return _listing(config, {UNDIVIDED: (images, labels)}, [])


def has_idx(folder: Path) -> bool:
    """Whether IDX files lie in a folder."""
    return folder.is_dir() and any(_IDX.fullmatch(path.name) for path in folder.iterdir())


def list_idx(config: WriteConfig) -> Listing:
    """The images of a folder of IDX files, as MNIST and Fashion-MNIST come. Raises InputError."""
    folder = Path(config.images)
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if name := _IDX.fullmatch(path.name):
            its_split = named(name[1])
            split = TEST if name[1] == "t10k" else its_split.split if its_split else UNDIVIDED
            kind = name[2].lower()
            if kind in found.setdefault(split, {}):
                raise InputError(f"{found[split][kind]} and {path} are the same. Remove one.")
            found[split][kind] = path
    for files in found.values():
        if len(files) < 2:
            raise InputError(f"{next(iter(files.values()))}: its images or its labels are missing.")
    wanted = list(found) if UNDIVIDED in found else chosen(config.splits, list(found))
    arrays = {
        split: (_read_idx(found[split]["images"], 3), _read_idx(found[split]["labels"], 1))
        for split in wanted
    }
    return _listing(config, arrays, [])


def _listing(
    config: WriteConfig, arrays: dict[str, tuple[np.ndarray, np.ndarray]], names: list[str]
) -> Listing:
    """arrays: split -> images and labels. names: of the classes; empty: the numbers."""
    if not names:
        numbers = [labels for _, labels in arrays.values() if labels.dtype.kind in "iu"]
        most = max((int(labels.max(initial=0)) for labels in numbers), default=0)
        names = [str(number) for number in range(most + 1)]
    if len(set(names)) < len(names):
        raise InputError(f"{config.images}: class_names has a duplicate name.")
    readers, found = {}, {}
    for split, (images, labels) in arrays.items():
        reader = ArrayReader(images, labels, names)
        if reader.pixels.dtype != np.uint8:
            raise InputError(f"Images in {config.images} must be uint8, not {reader.pixels.dtype}.")
        classes: Classes = {name: [] for name in names}
        size = reader.pixels[0].nbytes
        for number, label in enumerate(labels.tolist()):
            classes[names[label]].append(Source(f"{split}{number:09d}", label, size))
        readers[split], found[split] = reader, classes

    def read(source: Source) -> np.ndarray:
        return readers[source.name[:-9]].pixels[int(source.name[-9:])]

    return listing(config, found, read)


def _load(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            return file if isinstance(file, np.ndarray) else {name: file[name] for name in file}
    except OSError as error:
        raise InputError(f"--images={path} cannot be read: {error}.") from None
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"--images={path} is not a NumPy file of plain arrays: {error}.") from None


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """uint8, as many dimensions as are asked for. Raises InputError."""
    try:
        content = durable.read(path, 2**33)
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) - start != np.prod(shape):
        raise InputError(f"{path} is no IDX file of bytes in {dimensions} dimensions, or damaged.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
