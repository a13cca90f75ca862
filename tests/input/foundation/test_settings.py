"""A setting's range is checked, shown and said from one declaration."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from input.foundation.errors import UserError
from input.foundation.settings import (
    MOST_USED,
    REQUIRED,
    Above,
    AtLeast,
    AtMost,
    Below,
    Matching,
    Section,
    check,
    settings,
)
from tests.conftest import error


class LensError(UserError):
    pass


@dataclass(frozen=True)
class Lens:
    focus: Annotated[int, "Millimetres.", AtLeast(1), AtMost(800)] = 50
    aperture: Annotated[float, "Widest f-number.", Above(0), Below(32.5)] = 2.8
    blades: Annotated[int | None, "Unset: round.", AtLeast(5)] = None
    maker: Annotated[str, "Who made it.", REQUIRED] = "us"
    serial: Annotated[str, "As engraved.", Matching(r"[A-Z]\d+", "a letter and digits")] = "A1"
    mount: Annotated[Literal["e", "f"], "Which cameras it fits."] = "e"
    weight: Annotated[float | None, "Grams."] = None

    def __post_init__(self):
        check(self, LensError)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"focus": 1, "aperture": 1e-9, "blades": 5},
        {"focus": 800, "aperture": 32.4, "blades": None},
        {"serial": "Z09", "weight": -1.0},
    ],
)
def test_what_is_in_range_is_taken(values):
    assert all(getattr(Lens(**values), name) == value for name, value in values.items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"focus": 0}, "--focus must be at least 1 and at most 800, not 0."),
        ({"focus": 801}, "--focus must be at least 1 and at most 800, not 801."),
        ({"aperture": 0.0}, "--aperture must be above 0 and below 32.5, not 0.0."),
        ({"aperture": 32.5}, "--aperture must be above 0 and below 32.5, not 32.5."),
        ({"aperture": math.nan}, "--aperture must be a finite number, not nan."),
        ({"weight": math.inf}, "--weight must be a finite number, not inf."),
        ({"blades": 4}, "--blades must be at least 5, not 4."),
        ({"maker": ""}, "--maker is missing: Who made it."),
        ({"serial": "A1\n"}, "--serial must be a letter and digits, not 'A1\\n'."),
    ],
)
def test_what_is_out_of_range_is_said_in_one_line(values, message):
    assert error(Lens, **values) == message
    with pytest.raises(LensError):
        Lens(**values)


def test_settings_of_a_dataclass():
    found = {setting.name: setting for setting in settings(Lens)}
    assert found["focus"].range == "at least 1 and at most 800"
    assert (found["blades"].kind, found["blades"].default) == (int, None)
    assert (found["mount"].kind, found["mount"].range) == (Literal["e", "f"], "")
    assert found["maker"].help == "Who made it."


def test_settings_belong_to_the_section_that_was_named_last():
    @dataclass(frozen=True)
    class Stand:
        name: Annotated[str, "As printed."] = ""
        legs: Annotated[int, "Legs.", AtLeast(3), Section("Feet"), MOST_USED] = 3
        spikes: Annotated[bool, "For snow."] = False
        head: Annotated[str, "Screw.", Section("Top")] = ""

    found = [(each.name, each.section, each.most_used) for each in settings(Stand)]
    assert found == [
        ("name", "", False),
        ("legs", "Feet", True),
        ("spikes", "Feet", False),
        ("head", "Top", False),
    ]
    assert settings(Stand)[1].range == "at least 3"


@pytest.mark.parametrize("value", ["gs://bucket/data", "s3://bucket/x", "hdfs://host/x"])
def test_what_is_on_no_file_system_is_one_line(value):
    @dataclass(frozen=True)
    class Folder:
        place: Annotated[str, "A folder."] = ""

    message = error(check, Folder(value), UserError)
    assert message.startswith(f"--place={value} is not on a file system")
    check(Folder("data/gs:/x"), UserError)
