"""Where a number of metrics.jsonl is shown: in which run of TensorBoard, under which tag.

Tags of one name in several runs are one chart; what stands before the slash is a group of charts.
"""

from collections.abc import Iterable

TRAIN, VALIDATION, AVERAGES = "train", "validation", "validation_ema"
RUNS = (TRAIN, VALIDATION, AVERAGES)  # folders of a run's own folder

# What stands before the slash in metrics.jsonl -> the run.
_RUNS = {"train": TRAIN, "validation": VALIDATION, "validation_of_averages": AVERAGES}
_TAGS = {
    "images_per_second": "speed/images_per_second",
    "seconds_per_step": "speed/seconds_per_step",
    "train/skipped_steps": "counts/skipped_steps",
    "train/too_large_steps": "counts/too_large_steps",
    "run/restarts": "counts/restarts",
    "run/bad_records": "counts/bad_records",
    "validation/images": "counts/images",
    "validation_of_averages/images": "counts/images",
}


def run_of(keys: Iterable[str]) -> str:
    """The run that a line of metrics is of, by its keys."""
    groups = {key.partition("/")[0] for key in keys}
    return VALIDATION if "validation" in groups else TRAIN


def place(key: str, run: str) -> tuple[str, str]:
    """A key of metrics.jsonl -> run and tag: validation/loss -> validation, loss.

    run: of its line. A key of another group is a tag there: time/saving -> train, time/saving.
    """
    group, _, name = key.partition("/")
    if group in _RUNS:
        return _RUNS[group], _TAGS.get(key, name)
    return run, _TAGS.get(key, key)
