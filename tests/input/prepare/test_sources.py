"""How images are divided into splits, class by class."""

from fractions import Fraction
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from input.manifest import Manifest
from input.prepare.config import WriteConfig
from input.prepare.places import bytes_of
from input.prepare.sources import LISTED, UNDIVIDED, Source, divide, listed, listing
from input.prepare.writer import write
from tests.conftest import encoded, error, picture
from tests.input.prepare.conftest import put, stored


def read(source: Source) -> bytes:
    raise AssertionError("a listing reads nothing")


def test_split_divides_each_class(images, out):
    whole = {path.read_bytes() for path in Path(images).rglob("*.*")}
    manifests = write(
        WriteConfig(images=images, out=str(out), split="train:0.7, val:0.2 ,test:0.1")
    )
    assert list(manifests) == ["train", "validation", "test"]
    assert [each.records_per_class for each in manifests.values()] == [
        (14, 9, 6),  # of 20, 12 and 8: 14, 8.4, 5.6
        (4, 2, 1),  # 4, 2.4, 1.6
        (2, 1, 1),  # 2, 1.2, 0.8
    ]
    parts = [image for each in manifests.values() for image, _ in stored(each)]
    assert len(parts) == len(whole)
    assert set(parts) == whole
    assert all(each == Manifest.load(out / split) for split, each in manifests.items())


def test_images_that_come_in_splits_are_not_divided():
    found = {
        split: {name: [Source(f"{split}/{name}", label, 1)] for label, name in enumerate("ab")}
        for split in ("train", "test")
    }
    config = WriteConfig(images="x", out="y")
    assert {
        split: sorted(source.name for source in own)
        for split, own in listing(config, found, read).splits.items()
    } == {"train": ["train/a", "train/b"], "test": ["test/a", "test/b"]}
    config = WriteConfig(images="x", out="y", split="train:1")
    assert error(listing, config, found, read) == (
        "--images=x has the splits train, test already. Leave --split out."
    )


def test_order_and_division_follow_from_names_and_seed():
    """Not from the order in which images are found, nor from their sizes."""

    def listed_names(sources, seed=0):
        config = WriteConfig(images="x", out="y", seed=seed)
        found = {"a": sources, "b": [Source(f"b{i}", 1, 1) for i in range(30)]}
        splits = listing(config, {UNDIVIDED: found}, read).splits
        return {split: [source.name for source in own] for split, own in splits.items()}

    sources = [Source(f"a{i}", 0, i) for i in range(30)]
    one = listed_names(sources)
    assert {split: len(names) for split, names in one.items()} == {"train": 54, "validation": 6}
    assert listed_names(sources[::-1]) == one
    assert listed_names([source._replace(bytes=9) for source in sources]) == one
    other = listed_names(sources, seed=1)
    assert sorted(other["validation"]) != sorted(one["validation"])
    everything = [name for names in one.values() for name in names]
    assert sorted(everything) == sorted([name for names in other.values() for name in names])


def test_a_single_class_is_refused():
    found = {UNDIVIDED: {"a": [Source("a/1", 0, 1), Source("a/2", 0, 1)]}}
    assert "--images=x has the class a only; a classifier needs 2." in error(
        listing, WriteConfig(images="x", out="y"), found, read
    )


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(i) for i in range(LISTED)]).endswith("18, 19")
    assert listed([str(i) for i in range(LISTED + 3)]).endswith("18, 19 and 3 more")


def test_a_size_that_cannot_be_found_out_is_0(tmp_path):
    assert bytes_of(put(tmp_path / "file", b"12345")) == 5
    assert bytes_of(tmp_path / "nothing") == 0


def test_divide():
    tenths = [Fraction(9, 10), Fraction(1, 10)]
    assert [divide(count, tenths) for count in (2, 3, 10, 14, 15, 16, 100)] == [
        [1, 1],
        [2, 1],
        [9, 1],
        [13, 1],
        [14, 1],
        [14, 2],
        [90, 10],
    ]
    assert divide(3, [Fraction(98, 100), Fraction(1, 100), Fraction(1, 100)]) == [1, 1, 1]


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=3), st.integers(0, 1000))
def test_divide_gives_everything_and_is_fair(weights, more):
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    count = len(shares) + more
    parts = divide(count, shares)
    assert sum(parts) == count
    assert min(parts) >= 1
    assert all(
        abs(part - count * share) < 1 or 1 in parts
        for part, share in zip(parts, shares, strict=True)
    )


def test_a_class_too_small_for_the_split(images, out):
    put(Path(images, "fox", "only.png"), encoded(picture(), "PNG"))
    message = error(write, WriteConfig(images=images, out=str(out)))
    assert "Class fox has too few images (1) for one in each of train, validation" in message
    assert not out.exists()
