"""Immutable values, as `dataclasses` makes them, for those that every process needs.

A process that narrows one token runs for a few milliseconds. `dataclasses` would take a quarter of them: it
loads `inspect`, and it compiles six functions for each class, where one has to be.
"""

from operator import attrgetter
from typing import Any, Final, Literal, Never, TypeVar, dataclass_transform

_Class = TypeVar("_Class", bound=type[Any])

_DUNDERS: Final = frozenset({"__dict__", "__weakref__"})
_KEPT: Final[Any] = object()


def kept(*, init: Literal[False] = False) -> Any:
    """Stands for a slot that is no part of a value: None until `object.__setattr__` puts something there."""
    return _KEPT


@dataclass_transform(frozen_default=True, field_specifiers=(kept,))
def immutable(cls: _Class) -> _Class:
    """Returns `cls` with its annotations for fields: slots, which are set when it is made and never again.

    Two values are equal when they are of one class and all their fields are equal. What the class defines
    itself (`__eq__` with `__hash__`, `__repr__`) stays. `__post_init__` is called when it has one.
    `dataclasses.replace` and `dataclasses.fields` work as with what that module makes.
    """
    slots = tuple(cls.__annotations__)
    namespace = {name: item for name, item in vars(cls).items() if name not in _DUNDERS}
    defaults = {name: namespace.pop(name) for name in slots if name in namespace}
    names = tuple([name for name in slots if defaults.get(name) is not _KEPT])
    parts = attrgetter(*names)

    def equal(self: Any, other: object) -> Any:
        return parts(self) == parts(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(parts(self))

    def shown(self: Any) -> str:
        fields = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{type(self).__qualname__}({fields})"

    def reduced(self: Any) -> tuple[Any, ...]:
        return (type(self), tuple([getattr(self, name) for name in names]))

    if "__eq__" not in namespace:
        namespace |= {"__eq__": equal, "__hash__": hashed}
    namespace.setdefault("__repr__", shown)
    namespace |= {
        "__slots__": slots,
        "__match_args__": names,
        "__init__": _initializer(slots, defaults, calls_back="__post_init__" in namespace),
        "__setattr__": _refuse_to_set,
        "__delattr__": _refuse_to_delete,
        "__reduce__": reduced,
        "__dataclass_fields__": _Fields(names, defaults),
    }
    metaclass: Any = type(cls)
    made: _Class = metaclass(cls.__name__, cls.__bases__, namespace)
    return made


class _Fields:
    """What `dataclasses` knows its own by, made when it first asks: that takes as long as many decisions."""

    def __init__(self, names: tuple[str, ...], defaults: dict[str, Any]) -> None:
        self._names = names
        self._defaults = defaults
        self._made: Any = None

    def __get__(self, value: object, owner: type[Any]) -> Any:
        if self._made is None:
            import dataclasses

            fields = [
                (name, Any, dataclasses.field(default=self._defaults.get(name, dataclasses.MISSING)))
                for name in self._names
            ]
            made: Any = dataclasses.make_dataclass(owner.__name__, fields)
            self._made = made.__dataclass_fields__
        return self._made


def _initializer(slots: tuple[str, ...], defaults: dict[str, Any], *, calls_back: bool) -> Any:
    """Returns an `__init__` that is as fast as one written by hand: the engine makes thousands of values."""
    arguments, lines = ["self"], []
    for name in slots:
        if defaults.get(name) is _KEPT:
            lines.append(f" _set(self, {name!r}, None)")
            continue
        arguments.append(f"{name}=_defaults[{name!r}]" if name in defaults else name)
        lines.append(f" _set(self, {name!r}, {name})")
    if calls_back:
        lines.append(" self.__post_init__()")
    scope: dict[str, Any] = {"_set": object.__setattr__, "_defaults": defaults}
    exec("\n".join([f"def __init__({', '.join(arguments)}):", *lines]), scope)  # names of ours, and no more
    return scope["__init__"]


def _refuse_to_set(self: object, name: str, value: object) -> Never:
    raise AttributeError(f"{type(self).__name__} is immutable: {name!r} cannot be set")


def _refuse_to_delete(self: object, name: str) -> Never:
    raise AttributeError(f"{type(self).__name__} is immutable: {name!r} cannot be deleted")
