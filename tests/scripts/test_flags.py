"""What flags promise: a dataclass comes back as it was, and what is wrong is said in one line."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal, Optional

import pytest
from absl.flags import DuplicateFlagError, FlagValues
from hypothesis import given, settings
from hypothesis import strategies as st

from input.foundation.settings import REQUIRED, Above, AtLeast, Below, Matching
from scripts import flags


@dataclass(frozen=True)
class Optics:
    """Settings of a lens."""

    aperture: Annotated[float, "Widest f-number."] = 2.8
    zoom: Annotated[bool, "Whether it zooms."] = False
    stabilised: Annotated[bool, "Whether it holds still."] = True
    mount: Annotated[Literal["e", "f", "rf"], "Which cameras it fits."] = "rf"
    name: Annotated[str, "What is engraved."] = "50 mm"

    def __post_init__(self):
        if self.aperture == 0:
            raise ZeroDivisionError("--aperture must not be 0.")


@dataclass(frozen=True)
class Sensor:
    """Settings of a sensor."""

    width: Annotated[int, "Pixels a row."] = 6000
    crop: Annotated[int | None, "Pixels used. Unset: all."] = None
    gain: Annotated[Optional[float], "Decibel. Unset: automatic."] = None  # noqa: UP045
    dust: Annotated[bool | None, "Whether it shakes. Unset: when cold."] = None
    maker: Annotated[str | None, "Unset: not told."] = None
    bayer: Annotated[Literal["rggb", "bggr"] | None, "Order of colours."] = None


@dataclass(frozen=True)
class Camera:
    """Settings of a camera."""

    sensor: Sensor
    optics: Optics = Optics()
    shots: Annotated[int, "Pictures a second."] = 8
    long_exposure_noise_reduction: Annotated[bool, "Takes as long again."] = False


@pytest.fixture
def camera_flags():
    flag_values = FlagValues()
    flags.define(Camera, flag_values)
    return flag_values


def parsed(*arguments: str) -> Camera:
    flag_values = FlagValues()
    flags.define(Camera, flag_values)
    flags.parse(["camera", *arguments], flag_values)
    return flags.read(Camera, flag_values)


DEFAULT = Camera(Sensor())


def with_sensor(**values) -> Camera:
    return replace(DEFAULT, sensor=Sensor(**values))


def with_optics(**values) -> Camera:
    return replace(DEFAULT, optics=Optics(**values))


@pytest.mark.parametrize(
    ("arguments", "camera"),
    [
        ([], DEFAULT),
        (["--shots=3"], replace(DEFAULT, shots=3)),
        (["--shots", "3"], replace(DEFAULT, shots=3)),
        (["--shots=3", "--shots=4"], replace(DEFAULT, shots=4)),
        (["--width=-1"], with_sensor(width=-1)),
        (["--aperture=1e-3"], with_optics(aperture=0.001)),
        (["--zoom", "--nostabilised"], with_optics(zoom=True, stabilised=False)),
        (["--zoom=true", "--stabilised=false"], with_optics(zoom=True, stabilised=False)),
        (["--mount=e"], with_optics(mount="e")),
        (["--name="], with_optics(name="")),
        (["--name=a=b --c"], with_optics(name="a=b --c")),
        (["--crop=0"], with_sensor(crop=0)),
        (["--gain=0"], with_sensor(gain=0.0)),
        (["--nodust"], with_sensor(dust=False)),
        (["--maker="], with_sensor(maker="")),
        (["--bayer=bggr"], with_sensor(bayer="bggr")),
    ],
)
def test_arguments_become_the_dataclass(arguments, camera):
    assert parsed(*arguments) == camera


def optional(strategy):
    return st.none() | strategy


sensors = st.builds(
    Sensor,
    width=st.integers(),
    crop=optional(st.integers()),
    gain=optional(st.floats(allow_nan=False)),
    dust=optional(st.booleans()),
    maker=optional(st.text()),
    bayer=optional(st.sampled_from(["rggb", "bggr"])),
)
lenses = st.builds(
    Optics,
    aperture=st.floats(allow_nan=False).filter(bool),
    zoom=st.booleans(),
    stabilised=st.booleans(),
    mount=st.sampled_from(["e", "f", "rf"]),
    name=st.text(),
)


@settings(max_examples=40, deadline=None)
@given(st.builds(Camera, sensor=sensors, optics=lenses, shots=st.integers()))
def test_every_camera_comes_back_from_its_command_line(camera):
    parts = [camera.sensor, camera.optics]
    values = {f.name: getattr(part, f.name) for part in parts for f in fields(part)}
    values["shots"] = camera.shots
    assert parsed(*(f"--{k}={v}" for k, v in values.items() if v is not None)) == camera


def test_types_are_the_fields_types():
    camera = parsed("--aperture=4", "--gain=1", "--crop=2")
    values = [camera.optics.aperture, camera.sensor.gain, camera.sensor.crop]
    assert [type(value) for value in values] == [float, float, int]


def test_a_flagfile_holds_flags_and_comments_and_the_last_flag_wins(tmp_path):
    (tmp_path / "lens.flags").write_text("--mount=e\n")
    preset = tmp_path / "preset.flags"
    preset.write_text(
        f"# A preset.\n\n--shots=20\n--zoom\n--flagfile={tmp_path}/lens.flags\n--maker=two words\n"
    )
    expected = Camera(
        sensor=Sensor(maker="two words"), optics=Optics(mount="e", zoom=True), shots=20
    )
    assert parsed(f"--flagfile={preset}") == expected
    assert parsed(f"--flagfile={preset}", "--shots=1") == replace(expected, shots=1)
    assert parsed("--shots=1", f"--flagfile={preset}") == expected


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--shot=3", "'shot'. Did you mean: shots ?"),
        ("--resolution=3", "'resolution'."),
        ("--shots=many", "--shots=many"),
        ("--shots=1.5", "--shots=1.5"),
        ("--shots", "Missing value for flag --shots."),
        ("--aperture=wide", "--aperture=wide"),
        ("--mount=g", "<e|f|rf>"),
        ("--bayer=none", "<rggb|bggr>"),
        ("--zoom=maybe", "--zoom=maybe"),
        ("--nozoom=true", "--nozoom=true"),
        ("--noshots", "'noshots'"),
        ("shots=3", "'shots=3' is not a flag"),
        ("--flagfile=no/such.flags", "--flagfile=no/such.flags: No such file or directory."),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(argument, said):
    with pytest.raises(flags.FlagError) as raised:
        parsed(argument)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wrong_flag_in_a_flagfile_is_named(tmp_path):
    (tmp_path / "preset.flags").write_text("--shot=3\n")
    with pytest.raises(flags.FlagError, match="'shot'"):
        parsed(f"--flagfile={tmp_path}/preset.flags")


def test_what_the_dataclass_checks_goes_through():
    with pytest.raises(ZeroDivisionError, match="--aperture must not be 0"):
        parsed("--aperture=0")


def test_two_settings_of_one_name_are_refused(camera_flags):
    @dataclass
    class Flash:
        width: Annotated[int, "Degrees."] = 60

    with pytest.raises(DuplicateFlagError, match="width"):
        flags.define(Flash, camera_flags)


def test_a_setting_without_a_default_is_refused():
    @dataclass
    class Flash:
        power: Annotated[int, "Watt seconds."]

    with pytest.raises(TypeError, match=r"Flash\.power"):
        flags.define(Flash, FlagValues())


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_manual_has_every_flag_once_with_help_and_default(camera_flags, width):
    lines = list(flags.manual(Camera, width, camera_flags))
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
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
        assert text.count(entry) == 1, entry


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
    flag_values = FlagValues()
    flags.define(Tripod, flag_values)
    assert " ".join(" ".join(flags.manual(Tripod, width, flag_values)).split()) == (
        "What it stands on. "
        "--legs Legs. (at least 3; default: 3) "
        "--tilt Degrees. (above -90 and below 90; default: unset) "
        "--head Screw. (a fraction of an inch; default: 1/4) "
        "--owner Who carries it. (required) "
        "--bag What it is carried in. (default: unset)"
    )


def test_a_default_stands_on_the_line_of_its_word():
    flag_values = FlagValues()
    flags.define(Tripod, flag_values)
    for width in range(45, 75):
        lines = list(flags.manual(Tripod, width, flag_values))
        assert sum("default: " in line for line in lines) == 4
        assert "\N{NO-BREAK SPACE}" not in "".join(lines)


@dataclass(frozen=True)
class Album:
    """Pictures."""

    pages: Annotated[tuple[str, ...], "Files of pages."] = ()
    cover: Annotated[str, "File of the cover."] = ""


@pytest.mark.parametrize(
    ("name", "arguments", "pages", "cover"),
    [
        ("pages", [], (), ""),
        ("pages", ["a", "b,c", "--cover=d"], ("a", "b,c"), "d"),
        ("pages", ["a", "--pages=b"], ("a", "b"), ""),
        ("cover", ["d", "--pages=a", "--pages=b"], ("a", "b"), "d"),
    ],
)
def test_what_stands_in_front_is_of_one_flag(name, arguments, pages, cover):
    flag_values = FlagValues()
    flags.define(Album, flag_values)
    flags.parse(flags.named(name, ["program", *arguments], flag_values), flag_values)
    assert flags.read(Album, flag_values) == Album(pages, cover)


def test_a_flag_that_is_given_once_takes_one_argument():
    flag_values = FlagValues()
    flags.define(Album, flag_values)
    with pytest.raises(flags.FlagError, match=r"^'e' is not a flag"):
        flags.parse(flags.named("cover", ["program", "d", "e"], flag_values), flag_values)
