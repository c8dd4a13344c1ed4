"""Immutable values are what a frozen dataclass with slots would be."""

import copy
import pickle
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from capability.datalog.immutable import immutable, kept


@immutable
class Made:
    """A value."""

    name: str
    terms: tuple[int, ...] = ()
    note: Any = kept()


@dataclass(frozen=True, slots=True)
class Standard:
    """The same, as the standard library makes it."""

    name: str
    terms: tuple[int, ...] = ()


@immutable
class Other:
    """Another class with the same fields."""

    name: str
    terms: tuple[int, ...] = ()


@immutable
class Checked:
    """One that looks at its fields."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("below 0")


def test_its_fields_are_made_once() -> None:
    assert fields_of(Made) is fields_of(Made)
    assert [each.name for each in fields(Made)] == ["name", "terms"]


def fields_of(kind: Any) -> Any:
    return kind.__dataclass_fields__


def test_equality_is_of_class_and_fields() -> None:
    assert Made("a", (1,)) == Made(name="a", terms=(1,))
    assert hash(Made("a", (1,))) == hash(Made("a", (1,)))
    assert Made("a") != Made("b")
    others: list[object] = [Other("a"), ("a", ())]
    assert Made("a") not in others
    assert len({Made("a"), Made("a"), Other("a")}) == 2


def test_nothing_is_set_afterwards() -> None:
    value = Made("a")
    for name in ("name", "other"):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
        with pytest.raises(AttributeError):
            delattr(value, name)
    assert not hasattr(value, "__dict__")


def test_what_is_kept_is_no_part_of_the_value() -> None:
    value = Made("a")
    object.__setattr__(value, "note", "seen")
    assert value == Made("a")
    assert "seen" not in repr(value)
    # what was kept of one value is not that of a changed one
    assert replace(value, name="b").note is None
    assert pickle.loads(pickle.dumps(value)).note is None
    with pytest.raises(TypeError):
        Made("a", (), note=1)  # type: ignore[call-arg]


def test_the_standard_library_takes_it_for_its_own() -> None:
    assert {each.name: each.default for each in fields(Made)} == {
        each.name: each.default for each in fields(Standard)
    }
    assert replace(Made("a", (1,)), name="b") == Made("b", (1,))
    with pytest.raises(TypeError):
        replace(Checked(1), other=1)  # type: ignore[call-arg]
    assert repr(Other("a", (1,))) == repr(Standard("a", (1,))).replace("Standard", "Other")
    assert vars(Made)["__match_args__"] == Standard.__match_args__
    assert vars(Made)["__doc__"] == "A value."


def test_copies() -> None:
    value = Made("a", (1,))
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value


def test_arguments_are_checked() -> None:
    with pytest.raises(TypeError):
        Made()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Made("a", (), 1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="below 0"):
        Checked(-1)
    with pytest.raises(ValueError, match="below 0"):
        replace(Checked(1), number=-1)
