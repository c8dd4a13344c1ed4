"""Programs written for biscuit_auth, run on it and on us: what they see must be the same."""

import inspect
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import biscuit_auth
import pytest

from capability import builders, errors, keys, third_party, tokens
from capability.datalog.errors import DataLogError

OURS = SimpleNamespace(
    **{
        name: getattr(module, name)
        for module, names in (
            (builders, ("BlockBuilder", "Check", "Fact", "Policy", "Rule")),
            (tokens, ("Biscuit", "BiscuitBuilder", "UnverifiedBiscuit")),
            (third_party, ("ThirdPartyBlock", "ThirdPartyRequest")),
            (keys, ("Algorithm", "KeyPair", "PrivateKey", "PublicKey")),
            (
                errors,
                (
                    "BiscuitBlockError",
                    "BiscuitBuildError",
                    "BiscuitSerializationError",
                    "BiscuitValidationError",
                ),
            ),
        )
        for name in names
    },
    DataLogError=DataLogError,
)
PEER = biscuit_auth
SECRET = "ed25519-private/" + "11" * 32
OTHER = "ed25519-private/" + "22" * 32


def pair(api: Any, text: str) -> Any:
    return api.KeyPair.from_private_key(api.PrivateKey(text))


def outcome(action: Callable[[], Any]) -> str:
    """The name of the error of the API that `action` raises, or what it returns."""
    try:
        return repr(action())
    except Exception as error:
        for name in ("DataLogError", "BiscuitBuildError", "BiscuitValidationError", "BiscuitBlockError"):
            if isinstance(error, tuple(getattr(api, name) for api in (OURS, PEER))):
                return name
        return type(error).__name__


def mint_and_narrow(api: Any) -> Any:
    root = pair(api, SECRET)
    builder = api.BiscuitBuilder(
        "user({id}); right($r) <- user($u), owner($u, $r); check if time($t), $t < {t}",
        {"id": 12, "t": "later"},
    )
    builder.add_fact(api.Fact("owner({u}, {r})", {"u": 12, "r": "file1"}))
    builder.add_rule(api.Rule("a($x) <- owner($x, $y)"))
    builder.add_check(api.Check("check all user($u), $u > 0 trusting {k}", {}, {"k": root.public_key}))
    builder.add_code("z(true)")
    builder.merge(api.BlockBuilder("merged(1)"))
    builder.set_root_key_id(7)
    token = builder.build(root.private_key)
    narrow = token.append(api.BlockBuilder('check if operation("read")'))
    again = api.Biscuit.from_base64(narrow.to_base64(), root.public_key)
    return (
        repr(builder),
        narrow.block_count(),
        [again.block_source(index) for index in range(2)],
        [again.block_external_key(index) for index in range(2)],
        len(again.revocation_ids),
        [len(identifier) for identifier in again.revocation_ids],
        again.revocation_ids == narrow.revocation_ids,
        token.revocation_ids[0] == narrow.revocation_ids[0],
        repr(token),
        repr(again),
        type(again.to_bytes()),
    )


def roots(api: Any) -> Any:
    root, other = pair(api, SECRET), pair(api, OTHER)
    builder = api.Biscuit.builder()
    builder.set_root_key_id(3)
    builder.add_code("f(1)")
    text = builder.build(root.private_key).to_base64()
    asked = []

    def provider(key_id: Any) -> Any:
        asked.append(key_id)
        return {3: root.public_key}[key_id]

    def failing(key_id: Any) -> Any:
        raise RuntimeError("no such key")

    unverified = api.UnverifiedBiscuit.from_base64(text)
    candidates = [
        root.public_key,
        other.public_key,
        provider,
        failing,
        lambda key_id: None,
        lambda key_id: {1: 2}[key_id],
        lambda key_id: other.public_key,
        lambda: root.public_key,
        lambda key_id: "no key",
    ]
    results = [
        outcome(lambda read=read, candidate=candidate: read(candidate).block_count())  # type: ignore[misc]
        for candidate in candidates
        for read in (
            lambda key: api.Biscuit.from_base64(text, key),
            lambda key: api.Biscuit.from_base64(data=text, root=key),
            lambda key: api.Biscuit.from_bytes(
                api.Biscuit.from_base64(text, root.public_key).to_bytes(), key
            ),
            unverified.verify,
        )
    ]
    return results, asked, unverified.root_key_id()


def unverified(api: Any) -> Any:
    root = pair(api, SECRET)
    text = api.BiscuitBuilder("f(1)").build(root.private_key).to_base64()
    token = api.UnverifiedBiscuit.from_base64(text)
    narrow = token.append(api.BlockBuilder("check if g(1)"))
    return (
        token.root_key_id(),
        narrow.block_count(),
        narrow.block_source(1),
        len(narrow.revocation_ids),
        narrow.verify(root.public_key).block_source(0),
        outcome(lambda: narrow.block_source(5)),
        outcome(lambda: api.UnverifiedBiscuit.from_base64("AAAA")),
        outcome(lambda: api.UnverifiedBiscuit.from_base64("!!")),
        outcome(lambda: api.UnverifiedBiscuit.from_base64(None)),
    )


def third_parties(api: Any) -> Any:
    root, other = pair(api, SECRET), pair(api, OTHER)
    token = api.BiscuitBuilder("f(1)").build(root.private_key)
    block = token.third_party_request().create_block(
        other.private_key, api.BlockBuilder("g(1); check if f(1) trusting {k}", {}, {"k": root.public_key})
    )
    signed = token.append_third_party(other.public_key, block)
    deeper = signed.append(api.BlockBuilder("check if g(1) trusting {k}", {}, {"k": other.public_key}))
    deeper = api.Biscuit.from_base64(deeper.to_base64(), root.public_key)
    return (
        [repr(deeper.block_external_key(index)) for index in range(3)],
        [deeper.block_source(index) for index in range(3)],
        outcome(lambda: token.append_third_party(root.public_key, block)),
        outcome(lambda: signed.append_third_party(other.public_key, block)),
        outcome(lambda: deeper.append_third_party(other.public_key, block)),
        outcome(lambda: token.append_third_party(external_key=other.public_key, block=block).block_count()),
        outcome(lambda: token.append_third_party(repr(other.public_key), block)),
        outcome(lambda: token.third_party_request().create_block(other.public_key, api.BlockBuilder("g(1)"))),
        outcome(lambda: token.third_party_request().create_block(other, api.BlockBuilder("g(1)"))),
        outcome(lambda: token.third_party_request().create_block(other.private_key, "g(1)")),
    )


def misuse(api: Any) -> Any:
    root = pair(api, SECRET)
    token = api.BiscuitBuilder("f(1)").build(root.private_key)
    raw, text = token.to_bytes(), token.to_base64()
    return [
        outcome(action)
        for action in (
            lambda: api.Biscuit(),
            lambda: api.UnverifiedBiscuit(),
            lambda: token.append("f(1)"),
            lambda: token.append(api.BiscuitBuilder("f(1)")),
            lambda: api.BlockBuilder("f(1)").merge(api.BiscuitBuilder("f(1)")),
            lambda: token.block_source("a"),
            lambda: token.block_external_key(9),
            lambda: api.BiscuitBuilder("f(1)").build(None),
            lambda: api.BiscuitBuilder("f(1)").build(root),
            lambda: api.BiscuitBuilder("f(1)").build(root.public_key),
            lambda: api.BiscuitBuilder("f(1)").set_root_key_id(-1),
            lambda: api.BiscuitBuilder("f(1)").set_root_key_id(2**32),
            lambda: api.BiscuitBuilder("f(1)").set_root_key_id("1"),
            lambda: api.BiscuitBuilder("allow if true"),
            lambda: api.BiscuitBuilder("f("),
            lambda: api.BiscuitBuilder("f({a})"),
            lambda: api.BiscuitBuilder().add_code(None),
            lambda: api.Biscuit.from_bytes(b"", root.public_key),
            lambda: api.Biscuit.from_bytes(raw[:-3], root.public_key),
            lambda: api.Biscuit.from_bytes(list(raw), root.public_key),
            lambda: api.Biscuit.from_bytes(bytearray(raw), root.public_key),
            lambda: api.Biscuit.from_bytes(text, root.public_key),
            lambda: api.Biscuit.from_base64("", root.public_key),
            lambda: api.Biscuit.from_base64("!!!!", root.public_key),
            lambda: api.Biscuit.from_base64(" " + text, root.public_key),
            lambda: api.Biscuit.from_base64(text + "\n", root.public_key),
            lambda: api.Biscuit.from_base64(raw, root.public_key),
            lambda: api.Biscuit.from_base64(text.rstrip("="), root.public_key).block_count(),
            lambda: token == token,
            lambda: token.append(api.BlockBuilder()).block_source(1),
        )
    ]


@pytest.mark.parametrize("program", [mint_and_narrow, roots, unverified, third_parties, misuse])
def test_a_program_for_biscuit_auth_sees_the_same(program: Callable[[Any], Any]) -> None:
    assert program(OURS) == program(PEER)


CLASSES = [
    "Biscuit",
    "BiscuitBuilder",
    "BlockBuilder",
    "Check",
    "Fact",
    "Policy",
    "Rule",
    "ThirdPartyBlock",
    "ThirdPartyRequest",
    "UnverifiedBiscuit",
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_public_name_of_the_peer_s_classes_is_there(kind: str) -> None:
    theirs = {name for name in dir(getattr(PEER, kind)) if not name.startswith("_")}
    assert theirs - set(dir(getattr(OURS, kind))) == set()


def test_parameters_have_the_peer_s_names() -> None:
    for kind, method in [
        ("Biscuit", "append"),
        ("Biscuit", "append_third_party"),
        ("Biscuit", "block_source"),
        ("Biscuit", "block_external_key"),
        ("Biscuit", "from_bytes"),
        ("Biscuit", "from_base64"),
        ("UnverifiedBiscuit", "from_base64"),
        ("UnverifiedBiscuit", "verify"),
        ("UnverifiedBiscuit", "append"),
        ("UnverifiedBiscuit", "block_source"),
        ("BiscuitBuilder", "build"),
        ("BiscuitBuilder", "set_root_key_id"),
        ("BiscuitBuilder", "merge"),
        ("BlockBuilder", "add_code"),
        ("BlockBuilder", "add_fact"),
        ("BlockBuilder", "add_rule"),
        ("BlockBuilder", "add_check"),
        ("BlockBuilder", "merge"),
        ("ThirdPartyRequest", "create_block"),
    ]:
        signature = getattr(getattr(PEER, kind), method).__text_signature__
        theirs = re.findall(r"\$?\w+(?=[,)=])", signature.replace("=None", ""))
        theirs = [name for name in theirs if not name.startswith("$")]
        ours = [
            name
            for name in inspect.signature(getattr(getattr(OURS, kind), method)).parameters
            if name != "self"
        ]
        assert ours[: len(theirs)] == theirs, (kind, method)
