"""What flags promise: a dataclass comes back as it was, and what is wrong is said in one line."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal, Optional

import pytest
from absl.flags import DuplicateFlagError, FlagValues
from hypothesis import given, settings
from hypothesis import strategies as st

from input.foundation.settings import MOST_USED, Section
from input.foundation.settings import settings as settings_of
from scripts import flags, foreign


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
        ("--shot=3", "There is no flag --shot. Did you mean --shots?"),
        ("--zebra=3", "There is no flag --zebra."),
        ("--shots=many", "--shots=many: it must be a whole number."),
        ("--shots=1.5", "--shots=1.5: it must be a whole number."),
        ("--shots", "Missing value for flag --shots."),
        ("--aperture=wide", "--aperture=wide: it must be a number."),
        ("--mount=g", "--mount=g: it must be e or f or rf."),
        ("--bayer=RGGB", "--bayer=RGGB: it must be rggb or bggr. Did you mean rggb?"),
        ("--zoom=maybe", "--zoom=maybe: it must be true or false."),
        ("--nozoom=true", "--nozoom=true"),
        ("--noshots", "There is no flag --noshots. Did you mean --shots?"),
        ("shots=3", "'shots=3' is not a flag: flags are written --name=value, as in --shots=3."),
        ("many", "'many' is not a flag: flags are written --name=value."),
        ("--flagfile=no/such.flags", "--flagfile=no/such.flags: No such file or directory."),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(argument, said):
    with pytest.raises(flags.FlagError) as raised:
        parsed(argument)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--zoom", "true"],
            "'true' is not a flag: flags are written --name=value, as in --zoom=true.",
        ),
        (
            ["--shots", "=", "3"],
            "'=' stands alone: flags are written --name=value, without spaces.",
        ),
        (
            ["--name", "=", "x"],
            "'x' is not a flag: flags are written --name=value, without spaces ",
        ),
    ],
)
def test_what_was_meant_is_shown(arguments, said):
    with pytest.raises(flags.FlagError) as raised:
        parsed(*arguments)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    ("argument", "about"),
    [("--shots=many", "shots"), ("--shot=3", ""), ("--lens=3", ""), ("--title=a", "name")],
)
def test_the_flag_that_was_meant_is_known(argument, about, monkeypatch):
    monkeypatch.setitem(foreign._OURS, "title", ["brand", "name"])
    with pytest.raises(flags.FlagError) as raised:
        parsed(argument)
    assert raised.value.about == about


def test_a_wrong_flag_in_a_flagfile_is_named(tmp_path):
    (tmp_path / "preset.flags").write_text("--shot=3\n")
    with pytest.raises(flags.FlagError, match="no flag --shot"):
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


@dataclass(frozen=True)
class Bag:
    """What it is carried in."""

    strap: Annotated[str, "Over the shoulder."] = ""
    litres: Annotated[int, "Room.", Section("Space"), MOST_USED] = 10
    pockets: Annotated[int, "Outside."] = 2
    colour: Annotated[Literal["black", "red"], "Cloth.", Section("Looks")] = "black"
    lining: Annotated[bool, "Inside.", Section("Space")] = True


def test_settings_stand_by_what_they_belong_to():
    found = flags.sections((Bag, Camera))
    assert {title: [each.name for each in own] for title, own in found.items()} == {
        flags.MOST_USED_TITLE: ["litres"],
        "What it is carried in.": ["strap"],
        "Space": ["pockets", "lining"],
        "Looks": ["colour"],
        "Settings of a camera.": ["shots", "long_exposure_noise_reduction"],
        "Settings of a sensor.": ["width", "crop", "gain", "dust", "maker", "bayer"],
        "Settings of a lens.": ["aperture", "zoom", "stabilised", "mount", "name"],
    }


@pytest.mark.parametrize(
    ("name", "words"), [("colour", ("black", "red")), ("litres", ()), ("lining", ())]
)
def test_the_words_of_a_setting(name, words):
    (setting,) = (each for each in settings_of(Bag) if each.name == name)
    assert flags.choices(setting) == words


@dataclass(frozen=True)
class Album:
    """Pictures."""

    pictures: Annotated[tuple[str, ...], "Files of pictures."] = ()
    title: Annotated[str, "On its cover."] = ""
    pages: Annotated[int, "How many."] = 1
    bound: Annotated[bool, "As a book."] = False


@pytest.mark.parametrize(
    ("arguments", "album"),
    [
        ([], Album()),
        (["a", "b"], Album(("a", "b"))),
        (["--pictures=a", "--pictures=b"], Album(("a", "b"))),
        (["a", "--pages=3", "b"], Album(("a", "b"), pages=3)),
        (["--pages", "3", "a", "--bound", "b"], Album(("a", "b"), pages=3, bound=True)),
        (["--title", "-", "-x", "a"], None),
        (["--title", "-", "a", "--", "-x", "--pages=3"], Album(("a", "-x", "--pages=3"), "-")),
    ],
)
def test_arguments_that_are_no_flags_are_of_the_one_that_is_named(arguments, album):
    flag_values = FlagValues()
    flags.define(Album, flag_values)
    argv = flags.named("pictures", ["album", *arguments], flag_values)
    if album is None:
        with pytest.raises(flags.FlagError, match="--x"):
            flags.parse(argv, flag_values)
    else:
        flags.parse(argv, flag_values)
        assert flags.read(Album, flag_values) == album


def test_one_argument_is_of_a_flag_that_is_given_once():
    flag_values = FlagValues()
    flags.define(Album, flag_values)
    argv = flags.named("title", ["album", "--pages=3", "a", "b"], flag_values)
    assert argv == ["album", "--pages=3", "--title=a", "b"]
    with pytest.raises(flags.FlagError, match="'b' is not a flag"):
        flags.parse(argv, flag_values)
