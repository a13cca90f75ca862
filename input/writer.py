"""Class folders of images -> shards, indexes and a manifest per split; everything or nothing.

Images are stored byte for byte, for TensorFlow's decoders (channels=3) read every JPEG and PNG as
Pillow does: grey, palette, 1 to 16 bits, CMYK (tried with TensorFlow 2.21 and Pillow 13). What they
do not read is the EXIF orientation: a turned image is stored upright, encoded again. Alpha is
dropped, not blended: a TensorFlow program gets the same from the same file when it serves.
"""

import fcntl
import hashlib
import io
import logging
import os
import re
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from input.config import SPLITS, WriteConfig
from input.errors import InputError
from input.folders import LISTED, SUFFIXES, Source, find
from input.manifest import Manifest, Shard, save, save_index, sync_folder
from input.records import encode, frame, image_format

log = logging.getLogger(__name__)

SHARD_BYTES = 128 * 2**20
LOCK_FILE = ".write.lock"
_ORIENTATION = 0x0112  # EXIF 2.32, 4.6.4: 1 is upright, 2 to 8 are turned or mirrored
# A JPEG marker that is not part of entropy-coded data (ITU T.81, B.1.1): not 00, not a restart.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class _Checked(NamedTuple):
    source: Source
    content: bytes | None  # what is stored; None for a bad image
    size: tuple[int, int] = (0, 0)  # width and height in pixels, upright
    reason: str = ""  # why it is bad


def write(
    config: WriteConfig, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Manifest]:
    """Writes each split of config.images to config.out/<split>; returns split -> manifest.

    The same images and seed give the same bytes, whatever `jobs` is. `progress(done, total)` counts
    images. Bad images are logged and left out, up to config.max_bad_images. Raises InputError;
    after that, or a kill, there is no folder that looks like a finished split.
    """
    images, out = Path(config.images), Path(config.out)
    if out.resolve().is_relative_to(images.resolve()):
        raise InputError(f"--out={out} lies inside --images={images}. Choose another --out.")
    classes, splits = find(config)
    try:
        with _alone(out):
            for split in splits:
                if (out / split).exists():
                    raise InputError(f"{out / split} exists. Remove it or choose another --out.")
            return _write(config, classes, splits, progress)
    except OSError as error:  # those of an image became its reason
        raise InputError(f"Writing to {out} failed: {error}.") from error


def _write(
    config: WriteConfig,
    classes: tuple[str, ...],
    splits: dict[str, list[Source]],
    progress: Callable[[int, int], None],
) -> dict[str, Manifest]:
    images, out = Path(config.images), Path(config.out)
    incomplete = {split: out / f"{split}.incomplete" for split in SPLITS.values()}
    jobs = config.jobs or os.cpu_count() or 1
    sources = list(chain.from_iterable(splits.values()))
    manifests, bad = {}, []
    _remove(incomplete.values())  # left by a write that was killed
    try:
        with ThreadPoolExecutor(jobs) as pool, _quiet_pillow():
            checked = _checked(pool, 2 * jobs, images, sources, progress)
            for split, own in splits.items():
                folder = incomplete[split]
                folder.mkdir()
                counts = _shard_counts(own, config.shards)
                manifests[split], left_out = _write_split(folder, split, classes, checked, counts)
                bad += left_out
        _judge(config, bad, manifests)
        # train last: a kill between the renames then leaves nothing that can be trained on.
        for split in sorted(splits, key="train".__eq__):
            incomplete[split].rename(out / split)
        sync_folder(out)
    finally:
        _remove(incomplete.values())
    return {split: replace(each, folder=out / split) for split, each in manifests.items()}


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _write_split(
    folder: Path,
    split: str,
    classes: tuple[str, ...],
    checked: Iterator[_Checked],
    counts: Iterable[int],
) -> tuple[Manifest, list[_Checked]]:
    """Writes counts[i] of the `checked` images to shard i. Returns the bad ones as well."""
    per_class, sizes, bad, shards = [0] * len(classes), set(), [], []

    def records(part: Iterable[_Checked]) -> Iterator[bytes]:
        for image in part:
            if image.content is None:
                bad.append(image)
                continue
            per_class[image.source.label] += 1
            sizes.add(image.size)
            yield frame(encode(image.content, image.source.label))

    for count in counts:
        path = folder / f"{split}-{len(shards):05d}.tfrecord"
        shard = _write_shard(path, records(islice(checked, count)))
        if shard.records:
            shards.append(shard)
    width, height = sizes.pop() if len(sizes) == 1 else (0, 1)
    image_size = width if width == height else None
    manifest = Manifest(folder, classes, tuple(per_class), tuple(shards), image_size)
    save(manifest)
    return manifest, bad


def _write_shard(path: Path, records: Iterable[bytes]) -> Shard:
    """Writes a shard and its index; neither when there are no records."""
    digest, lengths = hashlib.sha256(), []
    with path.open("wb") as file:
        for record in records:
            file.write(record)
            digest.update(record)
            lengths.append(len(record))
        file.flush()
        os.fsync(file.fileno())
    shard = Shard(path.name, len(lengths), sum(lengths), digest.hexdigest())
    if lengths:
        save_index(path.parent, shard, lengths)
    else:
        path.unlink()
    return shard


def _shard_counts(sources: Sequence[Source], shards: int | None) -> list[int]:
    """How many images go into each shard; sizes differ by one image at most."""
    if shards is None:
        shards = -(-sum(source.bytes for source in sources) // SHARD_BYTES)
    shards = min(max(shards, 1), len(sources))
    ends = [len(sources) * i // shards for i in range(shards + 1)]
    return [end - start for start, end in pairwise(ends)]


def _judge(config: WriteConfig, bad: list[_Checked], manifests: dict[str, Manifest]) -> None:
    """Raises InputError for too many bad images, and for a class that they left empty."""
    lines = [f"{Path(config.images, each.source.name)}: {each.reason}" for each in bad]
    if len(bad) > config.max_bad_images:
        more = [f"and {len(bad) - LISTED} more"] if len(bad) > LISTED else []
        raise InputError(
            "\n  ".join([f"Bad images: {len(bad)}", *lines[:LISTED], *more])
            + "\nRepair or remove them, or leave them out with "
            f"--max_bad_images={len(bad)}. Nothing was written."
        )
    for line in lines:
        log.warning("Left out %s", line)
    for split, manifest in manifests.items():
        for name, records in zip(manifest.classes, manifest.records_per_class, strict=True):
            if not records:
                raise InputError(
                    f"Every image of class {name} in {split} is bad. Repair them or remove the "
                    "class. Nothing was written."
                )


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Makes `out` and holds its lock; the system drops the lock when the process dies."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another samestep-records write is writing to {out}. "
                "Wait for its end or choose another --out."
            ) from None
        yield


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Pillow's warnings name no file and help nobody, but that of a huge image: an error here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _checked(
    pool: Executor,
    ahead: int,
    images: Path,
    sources: Sequence[Source],
    progress: Callable[[int, int], None],
) -> Iterator[_Checked]:
    """Each source checked, in order; at most `ahead` images are held in memory."""
    waiting: deque[Future[_Checked]] = deque()
    for done in range(len(sources)):
        for source in sources[done + len(waiting) : done + ahead]:
            waiting.append(pool.submit(_check, images, source))
        checked = waiting.popleft().result()
        progress(done + 1, len(sources))
        yield checked


def _check(images: Path, source: Source) -> _Checked:
    """Reads a file and decodes it in full."""
    path = images / source.name
    try:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError("not a .jpg, .jpeg or .png file")
        if not path.is_file():  # opening a named pipe would wait for ever
            raise ValueError("neither a file nor a link to one")
        content = path.read_bytes()
        return _Checked(source, *_upright(content))
    except UnidentifiedImageError:
        reason = "its header cannot be read"
    except OSError as error:
        reason = error.strerror or str(error)
    # Pillow raises ValueError, SyntaxError, struct.error, zlib.error, .. for damaged files.
    except Exception as error:
        reason = str(error) or type(error).__name__
    return _Checked(source, None, reason=reason)


def _upright(content: bytes) -> tuple[bytes, tuple[int, int]]:
    """An image file's bytes -> the bytes to store, and width and height. Raises for a bad image.

    Pillow decodes some files that TensorFlow refuses, for want of an end or for a checksum. With
    both checked, no damaged file of 11,000 (bytes changed, zeroed, removed, cut off) was taken
    here and refused there. Zeros inside a JPEG pass in both.
    """
    kind = image_format(content)
    if kind is None:
        raise ValueError("neither JPEG nor PNG inside" if content else "empty")
    if kind == "jpeg" and not _jpeg_ends(content):
        raise ValueError("truncated: the JPEG has no end")
    if kind == "png":
        _open(content, kind).verify()  # checksums, and that there is an end
    image = _open(content, kind)
    image.load()
    if image.getexif().get(_ORIENTATION, 1) not in range(2, 9):
        return content, image.size
    # Chroma stays halved where it was, else whole: 4:2:2 would be halved in the other direction.
    subsampling = 2 if kind == "jpeg" and JpegImagePlugin.get_sampling(image) == 2 else 0
    image = ImageOps.exif_transpose(image)
    image.info = {}  # the EXIF among it, whose orientation no longer holds
    turned = io.BytesIO()
    if kind == "jpeg":
        image.save(turned, "JPEG", quality=95, subsampling=subsampling)
    else:
        image.save(turned, "PNG")
    return turned.getvalue(), image.size


def _open(content: bytes, kind: str) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=(kind,))


def _jpeg_ends(content: bytes) -> bool:
    """Whether the image has its end marker. Pillow stops reading at the last row of pixels."""
    at = 2
    while marker := _MARKER.search(content, at):
        if marker[0] == b"\xff\xd9":
            return True
        length = content[marker.end() : marker.end() + 2]
        at = marker.end() + int.from_bytes(length, "big")
    return False
