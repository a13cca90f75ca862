"""What --help says: every flag once, by what it belongs to, in lines that fit; one flag alone."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from input.foundation.settings import REQUIRED, Above, AtLeast, Below, Matching
from scripts import flags, manual
from tests.scripts.test_flags import Bag, Camera


def text(lines) -> str:
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_manual_has_every_flag_once_with_help_and_default(width):
    lines = list(manual.everything((Camera,), width, (), "camera"))
    assert max(map(len, lines)) <= width
    for entry in [
        "Settings of a camera. --shots Pictures a second. (default: 8)",
        "--[no]long_exposure_noise_reduction Takes as long again. (default: false)",
        "Settings of a sensor. --width Pixels a row. (default: 6000)",
        "--crop Pixels used. Unset: all. (default: unset)",
        "--[no]dust Whether it shakes. Unset: when cold. (default: unset)",
        "--bayer <rggb|bggr>: Order of colours. (default: unset)",
        "Settings of a lens. --aperture Widest f-number. (default: 2.8)",
        "--[no]stabilised Whether it holds still. (default: true)",
        "--mount <e|f|rf>: Which cameras it fits. (default: rf)",
        "--name What is engraved. (default: 50 mm)",
    ]:
        assert text(lines).count(entry) == 1, entry
    said = text(lines)
    assert all(f"--{name}" in said for name in manual.EVERYWHERE)


@dataclass(frozen=True)
class Tripod:
    """What it stands on."""

    legs: Annotated[int, "Legs.", AtLeast(3)] = 3
    tilt: Annotated[float | None, "Degrees.", Above(-90), Below(90)] = None
    head: Annotated[str, "Screw.", Matching("[0-9]/[0-9]", "a fraction of an inch")] = "1/4"
    owner: Annotated[str, "Who carries it.", REQUIRED] = ""
    bag: Annotated[str, "What it is carried in."] = ""


@pytest.mark.parametrize("width", [60, 100])
def test_the_manual_says_what_may_be_set(width):
    said = text(manual.everything((Tripod,), width, ("head",), "tripod"))
    assert said.partition(" Of every command")[0] == (
        "What it stands on. "
        "--legs Legs. (at least 3; default: 3) "
        "--tilt Degrees. (above -90 and below 90; default: unset) "
        "--head Screw. (required) "
        "--owner Who carries it. (required) "
        "--bag What it is carried in. (default: unset)"
    )


def test_a_default_stands_on_the_line_of_its_word():
    for width in range(45, 75):
        lines = list(manual.everything((Tripod,), width, (), "tripod"))
        assert sum("default: " in line for line in lines) == 4
        assert "\N{NO-BREAK SPACE}" not in "".join(lines)


def test_one_flag_is_explained_alone(monkeypatch):
    explain = lambda name: text(manual.explained((Bag,), name, 80, (), "bag"))  # noqa: E731
    assert explain("litres") == "Most used: --litres Room. (default: 10)"
    monkeypatch.setitem(manual.foreign.THEIRS, "colour", "dye shade lining")
    assert explain("--Colour") == (
        "Looks: --colour <black|red>: Cloth. (default: black) "
        "Other frameworks call it --dye, --shade."
    )
    assert explain("flagfile").startswith("--flagfile A file of flags")
    with pytest.raises(flags.FlagError, match="Did you mean --colour"):
        explain("color")


def test_prose_is_wrapped_and_commands_are_not():
    command = "samestep-train --data_dir=" + "x" * 60
    description = f"""One two three four
    five.

    {command}
    """
    assert list(manual.prose(description, 12)) == [
        "One two",
        "three four",
        "five.",
        "",
        command,
        "",
    ]
