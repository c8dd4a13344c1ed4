"""Programs written for biscuit_auth, run on it and on us: authorizers print, decide and fail alike."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import biscuit_auth
import pytest

import capability

SECRET = "ed25519-private/" + "11" * 32
THIRD_PARTY = "ed25519-private/" + "22" * 32
STRANGER = "ed25519/a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f0"
"""The public key of THIRD_PARTY."""
BOTH = pytest.mark.parametrize("api", [biscuit_auth, capability], ids=["peer", "ours"])


def pair(api: Any, text: str = SECRET) -> Any:
    return api.KeyPair.from_private_key(api.PrivateKey(text))


def token(api: Any, authority: str, *blocks: str) -> Any:
    built = api.BiscuitBuilder(authority).build(pair(api).private_key)
    for source in blocks:
        built = built.append(api.BlockBuilder(source))
    return built


def roomy(api: Any, source: str = "", *parameters: Any) -> Any:
    """An authorizer builder whose deadline a slow machine does not meet."""
    builder = api.AuthorizerBuilder(source, *parameters)
    limits = builder.limits()
    limits.max_time = timedelta(seconds=10)
    builder.set_limits(limits)
    return builder


def text_of(action: Callable[[], Any]) -> str:
    """What `action` returns, or the text of its authorization error."""
    try:
        return repr(action())
    except (biscuit_auth.AuthorizationError, capability.AuthorizationError) as error:
        return f"AuthorizationError: {error}"
    except (biscuit_auth.BiscuitValidationError, capability.BiscuitValidationError):
        return "BiscuitValidationError"
    except TypeError:
        return "TypeError"


def assert_same(program: Callable[[Any], Any]) -> str:
    """Asserts that `program` sees the same with both, and returns what it saw."""
    ours = text_of(lambda: program(capability))
    assert ours == text_of(lambda: program(biscuit_auth))
    return ours


DECISIONS = [
    "",
    "allow if true",
    "deny if true",
    "allow if false",
    "deny if false; allow if true",
    'allow if user("a")',
    'allow if user("b") or user("a")',
    "allow if true; deny if true",
    "check if false",
    "check if false; allow if true",
    "check if false; deny if true",
    'check if user("a"), false or right($r, "read"), $r == "x"; reject if true; allow if true',
    'check all user($u), $u == "b"; allow if true',
    "check all nothing($x); allow if true",
    'reject if user("a"); allow if true',
    f"check if user($u) trusting {STRANGER}; allow if true",
    'check if user("b") trusting previous; allow if true',
    'check if user("b") trusting authority, previous; allow if true',
    "derived($u) <- user($u); check if derived($u); allow if derived($x), $x.starts_with($x)",
    'operation("read"); check if operation("write"), time(2020-01-01T00:00:00Z); allow if operation($o)',
    "check if 1 / 0 == 1; allow if true",
    "allow if 9223372036854775807 + 1 == 0",
    'check if "a" < 1; allow if true',
    "check if 1; allow if true",
    "check if false; allow if 1 === true",
    "check if true.extern::missing(); allow if true",
    "check if {1}.contains(null); deny if true",
    "check if user($x), [1].any($x -> true); allow if true",
    "check if (1 / 0 == 1).try_or(true); allow if true",
]


@pytest.mark.parametrize("source", DECISIONS)
@pytest.mark.parametrize(
    "blocks",
    [
        ('user("a"); right("x", "read");',),
        ('user("a"); check if operation("read");', 'user("b"); check if user("b"); check if false;'),
        ('user("a");', "reject if user($u) trusting authority;", "check all user($u), $u == 1;"),
    ],
)
def test_decisions_and_worlds(source: str, blocks: tuple[str, ...]) -> None:
    def program(api: Any) -> Any:
        authorizer = roomy(api, source).build(token(api, *blocks))
        return [repr(authorizer), text_of(authorizer.authorize), repr(authorizer)]

    assert_same(program)


def test_the_first_texts_are_these() -> None:
    def denied(api: Any) -> Any:
        return roomy(api, "check if false; allow if true").build(token(api, "check if a(1)")).authorize()

    assert assert_same(denied) == (
        "AuthorizationError: authorization failed: an allow policy matched (policy index: 0), and the"
        " following checks failed: Check n°0 in authorizer: check if false,"
        " Check n°0 in block n°0: check if a(1)"
    )
    assert assert_same(lambda api: roomy(api, "allow if 1 / 0 == 1").build_unauthenticated().authorize()) == (
        "AuthorizationError: Datalog  execution failure: Division by zero"
    )


@pytest.mark.parametrize(
    "limits", [{"max_facts": 5}, {"max_iterations": 1}, {"max_time": timedelta(microseconds=0)}]
)
def test_limits(limits: dict[str, Any]) -> None:
    source = "a(0, 1); a(1, 2); a(2, 3); a(3, 4); a($x, $z) <- a($x, $y), a($y, $z); allow if true"

    def program(api: Any) -> Any:
        builder = roomy(api, source)
        changed = builder.limits()
        for name, value in limits.items():
            setattr(changed, name, value)
        builder.set_limits(changed)
        assert all(getattr(builder.limits(), name) == value for name, value in limits.items())
        return builder.build(token(api, "n(0)")).authorize()

    assert assert_same(program) == "AuthorizationError: Reached Datalog execution limits"


def test_everything_that_a_builder_collects() -> None:
    def program(api: Any) -> Any:
        key = pair(api, THIRD_PARTY).public_key
        builder = roomy(api, "a({x}); check if true trusting {k};", {"x": 1}, {"k": key})
        builder.add_code("b({y})", {"y": datetime(2020, 1, 1, tzinfo=UTC), "unused": 1})
        builder.add_fact(api.Fact("f({v})", {"v": b"\x01"}))
        builder.add_rule(api.Rule("r($x) <- f($x)"))
        builder.add_check(api.Check("check if f($x)"))
        builder.add_policy(api.Policy("allow if f($x)"))
        builder.merge(api.AuthorizerBuilder("m(1); allow if m(1); check if m(1); mr($x) <- m($x)"))
        builder.merge_block(api.BlockBuilder("mb(1); check if mb(1)"))
        unauthenticated = builder.build_unauthenticated()
        return [repr(builder), str(builder), repr(unauthenticated), unauthenticated.authorize()]

    assert "allow if m(1);" in assert_same(program)


@BOTH
def test_set_time_states_the_time(api: Any) -> None:
    builder = roomy(api, "allow if time($t), $t > 2020-01-01T00:00:00Z")
    builder.set_time()
    assert builder.build_unauthenticated().authorize() == 0
    assert repr(builder).startswith("time(20")


@pytest.mark.parametrize(
    "rule",
    [
        "z($x) <- u($x)",
        "z($x) <- v($x)",
        "z($x, $y) <- oo($x), u($y)",
        "z($x) <- w($x)",
        "z($x) <- w($x) trusting previous",
        "z(1) <- true",
        "z(1) <- u($x)",
        "z($x) <- u($x), 1 / 0 == 1",
        "z($x) <- g($x) trusting ed25519/" + "{key}",
    ],
)
def test_queries(rule: str) -> None:
    def program(api: Any) -> Any:
        third_party = pair(api, THIRD_PARTY)
        built = token(api, 'u("a"); v($x) <- u($x)', 'w(1); u("b")')
        request = built.third_party_request()
        block = request.create_block(third_party.private_key, api.BlockBuilder("g(1)"))
        built = built.append_third_party(third_party.public_key, block)
        source = rule.replace("{key}", repr(third_party.public_key).removeprefix("ed25519/"))
        authorizer = roomy(api, "o(1); oo($x) <- o($x)").build(built)
        return [authorizer.query(api.Rule(source)), repr(authorizer)]

    assert_same(program)


VALUES = ["1", '"a"', "true", "hex:00ff", "2020-01-01T00:00:00Z"]


@pytest.mark.parametrize("value", VALUES)
def test_what_extern_functions_are_given_and_give(value: str) -> None:
    def program(api: Any) -> Any:
        seen: list[Any] = []

        def note(*arguments: Any) -> Any:
            seen.append([(type(argument).__name__, argument) for argument in arguments])
            return arguments[0]

        source = f"check if ({value}).extern::f() == {value}, ({value}).extern::f({value}) == {value}"
        builder = roomy(api, source + "; allow if true")
        builder.register_extern_func("f", note)
        return [builder.build_unauthenticated().authorize(), seen]

    assert_same(program)


@pytest.mark.parametrize("call", ["1.extern::f()", "1.extern::f(2)", "1.extern::f().try_or(true)"])
@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyError("a\nb"), ValueError()])
def test_extern_functions_that_fail(call: str, error: Exception) -> None:
    def program(api: Any) -> Any:
        def fail(*_: Any) -> Any:
            raise error

        builder = roomy(api, f"check if {call}; allow if true")
        builder.register_extern_funcs({"f": fail})
        return builder.build_unauthenticated().authorize()

    assert_same(program)


def test_which_extern_functions_are_registered() -> None:
    def program(api: Any) -> Any:
        def authorize(*steps: Callable[[Any], Any]) -> str:
            builder = roomy(api, "check if 1.extern::f(); allow if true")
            for step in steps:
                step(builder)
            return text_of(builder.build_unauthenticated().authorize)

        other = api.AuthorizerBuilder("")
        other.register_extern_func("f", lambda _: True)
        return [
            authorize(lambda builder: builder.register_extern_func("f", lambda _: True)),
            authorize(
                lambda builder: builder.register_extern_func("f", lambda _: True),
                lambda builder: builder.register_extern_func("f", lambda _: False),
            ),
            authorize(
                lambda builder: builder.register_extern_func("f", lambda _: True),
                lambda builder: builder.set_extern_funcs({}),
            ),
            authorize(lambda builder: builder.merge(other)),
            authorize(),
        ]

    assert_same(program)


WRONG: list[Callable[[Any], Any]] = [
    lambda api: api.AuthorizerBuilder("").add_fact("f(1)"),
    lambda api: api.AuthorizerBuilder("").add_rule(api.Fact("f(1)")),
    lambda api: api.AuthorizerBuilder("").add_check("check if true"),
    lambda api: api.AuthorizerBuilder("").add_policy(1),
    lambda api: api.AuthorizerBuilder("").merge(api.BlockBuilder("a(1)")),
    lambda api: api.AuthorizerBuilder("").merge_block(api.AuthorizerBuilder("a(1)")),
    lambda api: api.AuthorizerBuilder("").set_limits({"max_facts": 1}),
    lambda api: api.AuthorizerBuilder("").build(None),
    lambda api: api.AuthorizerBuilder("").build(
        api.UnverifiedBiscuit.from_base64(token(api, "a(1)").to_base64())
    ),
    lambda api: api.AuthorizerBuilder("").build_unauthenticated().query("a($x) <- b($x)"),
]


@pytest.mark.parametrize("program", WRONG)
def test_wrong_types(program: Callable[[Any], Any]) -> None:
    assert assert_same(program) == "TypeError"


@BOTH
@pytest.mark.parametrize("source", ["foo", "a($x)", "a({x})", "check if true trusting {k}", "allow if"])
def test_wrong_source(api: Any, source: str) -> None:
    with pytest.raises(api.DataLogError):
        api.AuthorizerBuilder(source)


def test_an_extern_function_can_be_called() -> None:
    builder = capability.AuthorizerBuilder("")
    not_a_function: Any = 3
    with pytest.raises(TypeError, match="'f' is not callable"):
        builder.register_extern_func("f", not_a_function)
    for register in (builder.register_extern_funcs, builder.set_extern_funcs):
        with pytest.raises(TypeError, match="'f' is not callable"):
            register({"f": not_a_function})
