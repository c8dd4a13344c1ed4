"""The public names: whole, sorted, and the same for people, for type checkers and at run time."""

import ast
import subprocess
import sys
from inspect import getmembers, isclass
from pathlib import Path

import pytest

import capability
from capability import errors
from capability.datalog import errors as language_errors


def test_the_list_is_whole_and_sorted() -> None:
    assert capability.__all__ == sorted(set(capability.__all__))
    assert all(getattr(capability, name) is not None for name in capability.__all__)
    assert set(capability.__all__) <= set(dir(capability))


def test_type_checkers_see_what_runs() -> None:
    tree = ast.parse(Path(capability.__file__).read_text(encoding="utf-8"))
    declared = {
        (node.module, alias.name)
        for guarded in tree.body
        if isinstance(guarded, ast.If)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == {(module, name) for name, module in capability._MODULES.items()}
    assert sorted(name for _, name in declared) == capability.__all__


def test_every_error_is_public() -> None:
    names = {
        name
        for module in (errors, language_errors)
        for name, value in getmembers(module, isclass)
        if issubclass(value, Exception)
    }
    assert names <= set(capability.__all__)


def test_every_name_of_biscuit_auth_is_there() -> None:
    import biscuit_auth

    assert {name for name in dir(biscuit_auth) if name[0].isupper()} <= set(capability.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Caveat'"):
        capability.Caveat  # noqa: B018


def test_importing_is_cheap() -> None:
    heavy = ("lark", "nacl", "cryptography", "google.protobuf", "re2", "click", "sqlite_utils")
    program = f"import capability, sys; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
