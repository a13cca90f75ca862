"""Images from any source -> shards, indexes and a manifest per split; everything or nothing."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

from input.errors import InputError
from input.foundation import durable
from input.foundation.text import one_line
from input.manifest import Manifest, save
from input.prepare import arrays, examples, folders, tables
from input.prepare.config import WriteConfig
from input.prepare.conversion import Conversion, Converted, convert, quiet_pillow, reason
from input.prepare.places import ARCHIVES
from input.prepare.sources import LISTED, Listing, Source
from input.records import ENCODED, RAW, encode, frame
from input.shard import Shard, Summary, save_sources

log = logging.getLogger(__name__)

SHARD_BYTES = 128 * 2**20
LOCK_SUFFIX = ".lock"  # of the file beside --out that is locked during a write
# By the end of the name of --images; without one of these it is a folder.
LISTERS = {
    ".csv": tables.list_table,
    ".jsonl": tables.list_table,
    ".npz": arrays.list_npz,
    ".npy": arrays.list_npy,
    **dict.fromkeys(ARCHIVES, folders.list_archive),
}


class _Outcome(NamedTuple):
    """A source that was read and converted, or why it could not be."""

    source: Source
    converted: Converted | None  # None for a bad image
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
        raise InputError(f"--out={out} is inside --images={images}. Choose another --out.")
    listing = _lister(config)(config)
    try:
        with durable.made(out.parent), _locked(out):
            return _write(config, listing, progress)
    except OSError as error:  # those of an image became its reason
        raise InputError(f"Writing to {out} failed: {error}.") from error


def _lister(config: WriteConfig) -> Callable[[WriteConfig], Listing]:
    """What lists the images of --images. Raises InputError for settings that it does not read."""
    images = Path(config.images)
    found = next((LISTERS[end] for end in LISTERS if images.name.lower().endswith(end)), None)
    if found is None and arrays.has_idx(images):
        found = arrays.list_idx
    if found is None and examples.holds_examples(images):
        found = examples.list_examples
    if config.labels and found is not arrays.list_npy:
        raise InputError("--labels is for images in a .npy file. Leave it out.")
    if found is not examples.list_examples:
        for name in ("image_key", "label_key", "raw_shape"):
            if getattr(config, name):
                raise InputError(f"--{name} is for TFRecords, and {images} holds none.")
    return found or folders.list_folder


def _write(
    config: WriteConfig, listing: Listing, progress: Callable[[int, int], None]
) -> dict[str, Manifest]:
    out, splits = Path(config.out), listing.splits
    published = _published(out, list(splits))
    how = Conversion(config.encoding, config.short_side, config.quality, config.max_pixels)
    jobs = config.jobs or os.cpu_count() or 1
    sources = list(chain.from_iterable(splits.values()))
    manifests: dict[str, Manifest] = {}
    bad: list[_Outcome] = []
    with (
        ThreadPoolExecutor(jobs) as pool,
        quiet_pillow(),
        durable.publish(published) as incomplete,
    ):
        outcomes = _converted(pool, 2 * jobs, listing, how, sources, progress)
        for split, own in splits.items():
            counts = _shard_counts(own, config.shards)
            folder = incomplete if published == out / split else incomplete / split
            folder.mkdir(exist_ok=True)
            manifests[split], left_out = _write_split(
                config, listing.classes, folder, split, outcomes, counts
            )
            bad += left_out
        _judge(config, bad, listing)
    return {split: replace(each, folder=out / split) for split, each in manifests.items()}


def _write_split(
    config: WriteConfig,
    classes: tuple[str, ...],
    folder: Path,
    split: str,
    outcomes: Iterator[_Outcome],
    counts: Iterable[int],
) -> tuple[Manifest, list[_Outcome]]:
    """Writes counts[i] of the converted images to shard i. Returns the bad ones as well."""
    per_class = [0] * len(classes)
    sizes: set[tuple[int, int]] = set()
    bad: list[_Outcome] = []
    shards: list[Shard] = []
    names: list[str] = []  # of the present shard

    def records(part: Iterable[_Outcome]) -> Iterator[bytes]:
        for image in part:
            if image.converted is None:
                bad.append(image)
                continue
            content, (width, height), raw = image.converted
            per_class[image.source.label] += 1
            sizes.add((width, height))
            names.append(image.source.name)
            yield frame(encode(content, image.source.label, (height, width) if raw else None))

    for count in counts:
        path = folder / f"{split}-{len(shards):05d}.tfrecord"
        shard = _write_shard(path, records(islice(outcomes, count)))
        if shard is not None:
            shards.append(shard)
            save_sources(folder, shard, names)
        names.clear()
    width, height = sizes.pop() if len(sizes) == 1 else (0, 1)
    manifest = Manifest(
        folder=folder,
        classes=classes,
        records_per_class=tuple(per_class),
        shards=tuple(shards),
        image_size=width if width == height else None,
        schema=RAW if config.encoding == "raw" else ENCODED,
    )
    save(manifest)
    return manifest, bad


def _write_shard(path: Path, records: Iterable[bytes]) -> Shard | None:
    """Writes a shard, its index and its checksums; nothing when there are no records."""
    summary = Summary()
    with path.open("wb") as file:
        for record in records:
            file.write(record)
            summary.add(record)
    if not summary.lengths:
        path.unlink()
        return None
    return summary.save(path.parent, path.name)


def _shard_counts(sources: Sequence[Source], shards: int | None) -> list[int]:
    """How many images go into each shard; sizes differ by one image at most."""
    if shards is None:
        shards = -(-sum(source.bytes for source in sources) // SHARD_BYTES)
    shards = min(max(shards, 1), len(sources))
    ends = [len(sources) * i // shards for i in range(shards + 1)]
    return [end - start for start, end in pairwise(ends)]


def _judge(config: WriteConfig, bad: list[_Outcome], listing: Listing) -> None:
    """Raises InputError for too many bad images, and for a class that they left empty."""
    folder = Path(config.images)
    if folder.suffix.lower() in (".csv", ".jsonl"):  # whose paths begin where it lies
        folder = folder.parent
    lines = [f"{folder / each.source.name}: {each.reason}" for each in bad]
    if len(bad) > config.max_bad_images:
        more = [f"and {len(bad) - LISTED} more"] if len(bad) > LISTED else []
        raise InputError(
            f"Bad images: {len(bad)}. Repair or remove them, or leave them out with "
            f"--max_bad_images={len(bad)}. Nothing was written.",
            [*lines[:LISTED], *more],
        )
    for line in lines:
        log.warning("Left out %s", one_line(line))
    is_bad = {each.source.name for each in bad}
    for split, sources in listing.splits.items():
        listed = {source.label for source in sources}
        left = {source.label for source in sources if source.name not in is_bad}
        for label in sorted(listed - left):
            raise InputError(
                f"Every image of class {listing.classes[label]} in {split} is bad. Repair them or "
                "remove the class. Nothing was written."
            )


def _published(out: Path, splits: list[str]) -> Path:
    """The one folder that gets its name when all is written: a half data set must not look whole.

    `out`, or, where that is there and holds other splits, the only split that is written.
    """
    for split in splits:
        if (out / split).exists():
            raise InputError(f"{out / split} exists. Remove it or choose another --out.")
    if not out.exists():
        return out
    if not out.is_dir():
        raise InputError(f"--out={out} is not a folder. Remove it or choose another --out.")
    if not any(out.iterdir()):
        return out
    if len(splits) > 1:
        raise InputError(
            f"--out={out} is there already, and {' and '.join(splits)} become a new folder in one "
            "move: a kill leaves all of them or none. Choose another --out."
        )
    return out / splits[0]


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Holds the lock of `out`, which the system drops when the process dies."""
    path = out.with_name(out.name + LOCK_SUFFIX)
    try:
        file = durable.lock(path)
    except BlockingIOError:
        raise InputError(
            f"Another samestep-records write is writing to {out}. "
            "Wait for its end or choose another --out."
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _converted(
    pool: Executor,
    ahead: int,
    listing: Listing,
    how: Conversion,
    sources: Sequence[Source],
    progress: Callable[[int, int], None],
) -> Iterator[_Outcome]:
    """Each source converted, in order; at most `ahead` images are held in memory."""
    waiting: deque[Future[_Outcome]] = deque()
    for done in range(len(sources)):
        for source in sources[done + len(waiting) : done + ahead]:
            waiting.append(pool.submit(_convert, listing, how, source))
        outcome = waiting.popleft().result()
        progress(done + 1, len(sources))
        yield outcome


def _convert(listing: Listing, how: Conversion, source: Source) -> _Outcome:
    """Reads an image and converts it."""
    try:
        return _Outcome(source, convert(listing.read(source), how))
    # Pillow raises ValueError, SyntaxError, struct.error, zlib.error, .. for damaged files.
    except Exception as error:
        return _Outcome(source, None, reason(error))
