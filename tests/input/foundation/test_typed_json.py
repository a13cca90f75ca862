"""JSON comes back as the dataclass that was written; all else is an error that names the key."""

import json
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from input.errors import InputError
from input.foundation.settings import AtLeast, check
from input.foundation.typed_json import JsonError, dump, load, loads
from tests.conftest import error


@dataclass(frozen=True)
class Inner:
    count: Annotated[int, "How many.", AtLeast(0)]
    share: Annotated[float, "How much."]
    kind: Annotated[Literal["a", "b"] | None, "Which."] = None

    def __post_init__(self):
        check(self, InputError)


@dataclass(frozen=True)
class Outer:
    version: Literal[1]
    name: str
    on: bool
    inner: Inner
    many: tuple[Inner, ...] = ()
    triple: tuple[int, int, int] | None = None
    notes: dict[str, str] | None = None


@dataclass(frozen=True)
class Ratio:
    value: float


INNER = {"count": 3, "share": 0.5, "kind": "a"}
OUTER = {
    "version": 1,
    "name": "x",
    "on": True,
    "inner": INNER,
    "many": [INNER, INNER],
    "triple": [1, 2, 3],
    "notes": {"a b": "c"},
}

inners = st.builds(
    Inner,
    count=st.integers(min_value=0),
    share=st.floats(allow_nan=False, allow_infinity=False),
    kind=st.sampled_from(["a", "b", None]),
)
# Zero bytes are refused: no path and no name has one.
texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
outers = st.builds(
    Outer,
    version=st.just(1),
    name=texts,
    on=st.booleans(),
    inner=inners,
    many=st.lists(inners, max_size=3).map(tuple),
    triple=st.none() | st.tuples(st.integers(), st.integers(), st.integers()),
    notes=st.none() | st.dictionaries(texts, texts, max_size=3),
)


@given(outers)
def test_what_is_dumped_is_loaded(content):
    assert loads(Outer, dump(content).encode(), "f.json") == content


def test_a_file_is_loaded(tmp_path):
    path = tmp_path / "f.json"
    path.write_text(json.dumps(OUTER))
    assert load(Outer, path).many[1] == Inner(**INNER)
    path.write_text("{}")
    assert error(load, Outer, path) == f"{path}: version is missing"


def changed(**changes) -> bytes:
    content = {**OUTER, **changes}
    return json.dumps({k: v for k, v in content.items() if v is not ...}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "f.json is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[" * 100_000, "f.json is not JSON: it is nested too deeply"),
        (b'{"version": 1, "version": 1}', 'f.json is not JSON: the key "version" occurs twice'),
        (b"[]", "f.json: it is [], not an object"),
        (changed(version=2), "f.json: version is 2, not 1"),
        (changed(version=True), "f.json: version is true, not 1"),
        (changed(name=...), "f.json: name is missing"),
        (changed(other=1), "f.json: other is not known"),
        (changed(name=3), "f.json: name is 3, not a text"),
        (changed(name="a\0"), 'f.json: name is "a\\u0000", which is not text'),
        (changed(on=1), "f.json: on is 1, not true or false"),
        (changed(inner=None), "f.json: inner is null, not an object"),
        (changed(inner={**INNER, "count": 1.0}), "f.json: inner.count is 1.0, not a whole number"),
        (changed(inner={**INNER, "count": False}), "f.json: inner.count is false, not a whole"),
        (changed(many=[INNER, {}]), "f.json: many[1].count is missing"),
        (changed(many={}), "f.json: many is {}, not a list"),
        (changed(inner={**INNER, "share": "1"}), 'f.json: inner.share is "1", not a number'),
        (
            changed(inner={**INNER, "share": float("nan")}),
            "inner.share is nan, not a finite number",
        ),
        (
            changed(inner={**INNER, "share": float("inf")}),
            "inner.share is inf, not a finite number",
        ),
        (changed(inner={**INNER, "share": 10**400}), "too large for a number"),
        (changed(inner={**INNER, "kind": "c"}), 'inner.kind is "c", not "a" or "b"'),
        (
            changed(inner={**INNER, "count": -1}),
            "inner holds a wrong setting: --count must be at l",
        ),
        (changed(triple=[1, 2]), "f.json: triple has 2 entries, not 3"),
        (changed(notes={"a b": 1}), 'f.json: notes."a b" is 1, not a text'),
        (changed(notes={"a\0": "x"}), 'f.json: notes is "a\\u0000", which is not text'),
        (changed(name=["x" * 100]), f'f.json: name is ["{"x" * 58}.., not a text'),
    ],
)
def test_the_key_and_what_came_are_named(content, message):
    assert message in error(loads, Outer, content, "f.json")


def test_a_whole_number_may_stand_for_a_float():
    content = loads(Outer, changed(inner={**INNER, "share": 2}), "f.json")
    assert type(content.inner.share) is float


def test_nan_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(Ratio(math.inf))


def test_the_error_is_a_users():
    with pytest.raises(JsonError):
        loads(Outer, b"\xff\xfe", "f.json")
