"""Block versions: the lowest that has everything is written, and none is read that has too much."""

import biscuit_auth
import pytest

from capability.datalog.parser import parse_block
from capability.datalog.program import Program
from capability.errors import UnsupportedVersion
from capability.wire.versions import check_version, required_version

KEY = "ed25519/" + "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"

VERSIONS = {
    "": 3,
    'f(1, "a", hex:00, 2026-01-01T00:00:00Z, true, {1, 2});': 3,
    "f($x) <- g($x), $x > 1 && $x.length() < 3;": 6,
    "f($x) <- g($x), $x > 1, !($x + 1 - 2 * 3 / 4 <= 5);": 3,
    "check if f($x), $x === 1;": 3,
    'check if f($x), $x.starts_with("a"), $x.ends_with("b"), $x.matches("c"), {1}.contains($x);': 3,
    "check if {1}.union({2}).intersection({3}).length() === 4;": 3,
    "check all f($x), $x > 1;": 4,
    "check if f($x), $x !== 1;": 4,
    "check if f($x), ($x & 1) > 0;": 4,
    "check if f($x), ($x | 1) > 0;": 4,
    "check if f($x), ($x ^ 1) > 0;": 4,
    "trusting authority; f(1);": 4,
    "f(1) <- g(1) trusting previous;": 4,
    f"check if f(1) trusting {KEY};": 4,
    "reject if f(1);": 6,
    "f(null);": 6,
    "f({null});": 6,
    "f(null) <- g(1);": 6,
    "f(1) <- g(null);": 6,
    "check if null === null;": 6,
    "check if f($x), $x == 1;": 6,
    "check if f($x), $x != 1;": 6,
    "check if f($x), $x || true;": 6,
    "check if f($x), $x &&! true;": 3,
    "check if f($x), $x ||! true;": 3,
    "check if {1}.any($x -> $x > 0);": 6,
    "check if {1}.all($x -> $x > 0);": 6,
    "check if (1 / 0).try_or(1) > 0;": 6,
    'check if 1.type() === "integer";': 6,
    "check if 1.extern::f();": 6,
    "check if 1.extern::f(2);": 6,
}
NOT_COUNTED_THERE = [
    "f([]);",
    "f({});",
    'f({"a": [null, {null}]});',
    "check if [1].get(0) > 0;",
    "f({[null]});",
]
"""What the Rust engine writes in any version; we write version 6 for it."""

UNPARSABLE_THERE = ["check if f($x), $x &&! true;", "check if f($x), $x ||! true;", "f({null});"]
"""The eager operators, which biscuit-python prints only, and what it takes for a parameter."""


@pytest.mark.parametrize(("source", "version"), VERSIONS.items(), ids=VERSIONS.keys())
def test_the_lowest_version_is_written_and_no_lower_one_is_read(source: str, version: int) -> None:
    program = parse_block(source)
    assert required_version(program, third_party=False) == version
    for declared in range(3, version):
        with pytest.raises(UnsupportedVersion):
            check_version(declared, program, third_party=False)
    for declared in range(version, 7):
        check_version(declared, program, third_party=False)


@pytest.mark.parametrize(
    ("source", "version"), [item for item in VERSIONS.items() if item[0] not in UNPARSABLE_THERE]
)
def test_biscuit_python_writes_the_same_version(source: str, version: int) -> None:
    builder = biscuit_auth.BiscuitBuilder(source)
    written = repr(builder.build(biscuit_auth.KeyPair().private_key))
    # it loses the scopes of a whole block
    expected = 3 if source.startswith("trusting") else version
    assert f"version: {expected}\n" in written


@pytest.mark.parametrize("source", NOT_COUNTED_THERE)
def test_arrays_maps_and_get_are_written_in_the_latest_and_read_in_any_version(source: str) -> None:
    program = parse_block(source)
    assert required_version(program, third_party=False) == 6
    for declared in range(3, 7):
        check_version(declared, program, third_party=False)


def test_a_third_party_block_is_at_least_of_version_5() -> None:
    assert required_version(Program(), third_party=True) == 5
    assert required_version(parse_block("f(null);"), third_party=True) == 6
    check_version(5, Program(), third_party=True)
    with pytest.raises(UnsupportedVersion):
        check_version(4, Program(), third_party=True)


@pytest.mark.parametrize("declared", [0, 1, 2, 7, 2**32 - 1])
def test_other_versions_are_not_read(declared: int) -> None:
    with pytest.raises(UnsupportedVersion) as caught:
        check_version(declared, Program(), third_party=False)
    assert caught.value.code == "format.version"
