"""The ready-made checks: what they say, what they refuse, and that narrowing needs no heavy module."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import biscuit_auth
import pytest

from capability.attenuation import Vocabulary, restriction
from capability.datalog.parser import parse_block
from capability.datalog.printer import print_program
from capability.datalog.program import Program
from capability.keys import KeyPair
from capability.tokens import BiscuitBuilder

NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        ({"applications": ["orders"]}, 'check all application($a), {"orders"}.contains($a);'),
        ({"applications": ["b", "a", "b"]}, 'check all application($a), {"a", "b"}.contains($a);'),
        ({"operations": ("read",)}, 'check all operation($o), {"read"}.contains($o);'),
        ({"tenants": {"acme"}}, 'check all tenant($t), {"acme"}.contains($t);'),
        (
            {"resources": ["/orders"]},
            'check all resource($r), $r == "/orders" || $r.starts_with("/orders/");',
        ),
        (
            {"resources": ["/orders/"]},
            'check all resource($r), $r == "/orders" || $r.starts_with("/orders/");',
        ),
        ({"resources": ["/"]}, 'check all resource($r), $r.starts_with("/");'),
        (
            {"resources": ["/a", "b", "/a/"]},
            "check all resource($r),"
            ' $r == "/a" || $r.starts_with("/a/") || $r == "b" || $r.starts_with("b/");',
        ),
        ({"expires": datetime(2026, 12, 1, tzinfo=UTC)}, "check all time($t), $t <= 2026-12-01T00:00:00Z;"),
        ({"expires": timedelta(hours=1)}, "check all time($t), $t <= 2026-11-01T13:00:00Z;"),
        ({"not_before": timedelta(0)}, "check all time($t), $t >= 2026-11-01T12:00:00Z;"),
        (
            {"not_before": datetime(2026, 11, 2, 1, tzinfo=timezone(timedelta(hours=2)))},
            "check all time($t), $t >= 2026-11-01T23:00:00Z;",
        ),
        (
            {"not_before": NOW, "expires": NOW},
            "check all time($t), $t >= 2026-11-01T12:00:00Z; check all time($t), $t <= 2026-11-01T12:00:00Z;",
        ),
        (
            {"applications": ['o"; allow if true; //\n']},
            'check all application($a), {"o\\"; allow if true; //\\n"}.contains($a);',
        ),
        ({}, ""),
    ],
)
def test_restriction_is_exactly_what_its_text_parses_to(arguments: dict[str, Any], source: str) -> None:
    program = restriction(now=NOW, **arguments)
    assert program == parse_block(source)
    assert parse_block(print_program(program)) == program


def test_each_kind_is_one_check_in_a_fixed_order() -> None:
    program = restriction(
        resources=["/r"],
        tenants=["t"],
        operations=["o"],
        applications=["a"],
        expires=timedelta(days=1),
        not_before=timedelta(hours=1),
        now=NOW,
    )
    names = [check.queries[0].body[0].name for check in program.checks]
    assert names == ["application", "operation", "tenant", "resource", "time", "time"]


def test_times_are_cut_to_the_second_that_grants_less() -> None:
    odd = NOW + timedelta(microseconds=1)
    assert restriction(expires=odd) == restriction(expires=NOW)
    assert restriction(not_before=odd) == restriction(not_before=NOW + timedelta(seconds=1))


def test_a_vocabulary_renames_the_facts() -> None:
    vocabulary = Vocabulary(application="app", operation="rights:op", time="now")
    program = restriction(
        applications=["x"], operations=["y"], expires=NOW, tenants=["z"], vocabulary=vocabulary
    )
    assert print_program(program) == (
        'check all app($a), {"x"}.contains($a);\n'
        'check all rights:op($o), {"y"}.contains($o);\n'
        'check all tenant($t), {"z"}.contains($t);\n'
        "check all now($t), $t <= 2026-11-01T12:00:00Z;\n"
    )


@pytest.mark.parametrize("name", ["", "a b", "a(", "1a", "_a", "a-b", "a\n", None, 3])
def test_a_vocabulary_takes_only_names_of_facts(name: Any) -> None:
    with pytest.raises(ValueError, match="not the name of a fact"):
        Vocabulary(operation=name)


@pytest.mark.parametrize("kind", ["applications", "operations", "tenants", "resources"])
@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([], ValueError, "is empty"),
        (iter(()), ValueError, "is empty"),
        ([""], ValueError, "empty string"),
        (["a", "\udc80"], ValueError, "not valid Unicode"),
        ("orders", TypeError, "list of strings"),
        (b"orders", TypeError, "list of strings"),
        ([b"orders"], TypeError, "not bytes"),
        ([None], TypeError, "not NoneType"),
        ([1], TypeError, "not int"),
    ],
)
def test_lists_that_nobody_means_are_refused(
    kind: str, values: Iterable[Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        restriction(**{kind: values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"expires": datetime(2026, 12, 1)}, ValueError, "time zone"),
        ({"not_before": datetime(2026, 12, 1)}, ValueError, "time zone"),
        ({"expires": timedelta(hours=1), "now": datetime(2026, 12, 1)}, ValueError, "time zone"),
        ({"expires": timedelta(0)}, ValueError, "after now"),
        ({"expires": timedelta(seconds=-1)}, ValueError, "after now"),
        ({"not_before": timedelta(seconds=-1)}, ValueError, "before now"),
        ({"expires": timedelta.max}, ValueError, "too far"),
        ({"expires": datetime(1969, 12, 31, tzinfo=UTC)}, ValueError, "1970"),
        ({"expires": NOW, "not_before": NOW + timedelta(seconds=1)}, ValueError, "not_before"),
        ({"expires": 3600}, TypeError, "not int"),
        ({"not_before": "1h"}, TypeError, "not str"),
    ],
)
def test_times_that_nobody_means_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        restriction(**{"now": NOW, **arguments})


def test_a_lifetime_counts_from_the_current_time() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    program = restriction(expires=timedelta(hours=1))
    after = datetime.now(UTC)
    hour = timedelta(hours=1)
    seconds = [int((moment + hour).timestamp()) for moment in (before, after)]
    candidates = [
        restriction(expires=datetime.fromtimestamp(second, UTC))
        for second in range(seconds[0], seconds[1] + 1)
    ]
    assert program in candidates


def test_nothing_named_is_nothing_checked() -> None:
    assert restriction() == Program()


REQUEST = {
    "application": 'application("orders");',
    "operation": 'operation("read");',
    "tenant": 'tenant("acme");',
    "resource": 'resource("/orders/7");',
    "time": "time(2026-11-01T12:30:00Z);",
}
NARROWINGS: dict[str, dict[str, Any]] = {
    "application": {"applications": ["orders", "billing"]},
    "operation": {"operations": ["read"]},
    "tenant": {"tenants": ["acme"]},
    "resource": {"resources": ["/other", "/orders/"]},
    "time": {"expires": timedelta(hours=1), "not_before": timedelta(minutes=10)},
}


@pytest.mark.parametrize("name", NARROWINGS)
@pytest.mark.parametrize(
    ("wrong", "allowed"),
    [
        ({}, True),
        ({"application": 'application("admin");'}, False),
        ({"operation": 'operation("write");'}, False),
        ({"tenant": 'tenant("acme2");'}, False),
        ({"resource": 'resource("/orders");'}, True),
        ({"resource": 'resource("/orders-old");'}, False),
        ({"resource": 'resource("/");'}, False),
        ({"time": "time(2026-11-01T13:00:00Z);"}, True),
        ({"time": "time(2026-11-01T13:00:01Z);"}, False),
        ({"time": "time(2026-11-01T12:09:59Z);"}, False),
        ({"operation": 'operation("read"); operation("write");'}, False),
        ({"operation": "", "application": "", "tenant": "", "resource": "", "time": ""}, False),
    ],
)
def test_the_rust_engine_allows_just_what_was_named(name: str, wrong: dict[str, str], allowed: bool) -> None:
    root = KeyPair()
    token = BiscuitBuilder("user(1)").build(root.private_key).attenuate(**NARROWINGS[name], now=NOW)
    theirs = biscuit_auth.Biscuit.from_base64(
        token.to_base64(), biscuit_auth.PublicKey(repr(root.public_key))
    )
    authorizer: Any = biscuit_auth.AuthorizerBuilder(f"{''.join((REQUEST | wrong).values())} allow if true")
    limits = authorizer.limits()
    limits.max_time = timedelta(seconds=10)
    authorizer.set_limits(limits)
    built = authorizer.build(theirs)
    if allowed or name not in wrong:
        built.authorize()
    else:
        with pytest.raises(biscuit_auth.AuthorizationError, match=r"Check n°[01] in block n°1"):
            built.authorize()


HEAVY = ("lark", "cryptography", "re2", "sqlite_utils", "sqlite3", "click")

NARROW = """
import sys
from datetime import timedelta
from capability.tokens import UnverifiedBiscuit
token = UnverifiedBiscuit.from_base64(sys.argv[1])
narrow = token.attenuate(applications=["orders"], resources=["/orders"], expires=timedelta(hours=1))
assert UnverifiedBiscuit.from_base64(narrow.seal().to_base64()).block_count() == 2
print(" ".join(name for name in sys.argv[2].split() if name in sys.modules))
"""


def test_narrowing_loads_no_heavy_module(run_python: Callable[..., str]) -> None:
    token = BiscuitBuilder('right("orders", "read")').build(KeyPair().private_key)
    heavy_modules = " ".join(
        (*HEAVY, "capability.datalog.parser", "capability.datalog.engine", "capability.authorizer")
    )
    assert run_python(NARROW, token.to_base64(), heavy_modules).split() == []


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Runs a program in a fresh interpreter and returns what it printed."""

    def run(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
