"""Key sets: selection, rotation, web keys, versions."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from capability.errors import KeyFormatError, UnknownRootKey
from capability.keys import Algorithm, KeyPair, PrivateKey, PublicKey
from capability.keyset import KeyEntry, KeySet, KeyState

ONE, TWO, THREE = (PrivateKey("ed25519-private/" + digits * 32).public_key for digits in ("11", "22", "33"))
P256 = KeyPair(Algorithm.Secp256r1).public_key
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def at_noon() -> datetime:
    return NOON


def test_a_key_is_selected_by_the_id_that_the_token_names() -> None:
    keys = KeySet.from_keys({1: ONE, 2: TWO})
    assert keys.select(1) == ONE
    assert keys.select(2) == TWO
    assert keys(2) == TWO


@pytest.mark.parametrize("key_id", [0, 3, 2**32 - 1])
def test_an_unknown_key_id_is_its_own_error(key_id: int) -> None:
    for keys in (KeySet.from_keys({1: ONE, 2: TWO}), KeySet.from_keys({None: ONE}), KeySet([])):
        with pytest.raises(UnknownRootKey) as caught:
            keys.select(key_id)
        assert caught.value.code == "key.unknown"


def test_a_token_without_a_key_id_is_for_the_key_without_one() -> None:
    assert KeySet.from_keys({1: ONE, None: TWO}).select(None) == TWO


def test_a_token_without_a_key_id_is_for_the_only_key() -> None:
    assert KeySet.from_keys({7: ONE}).select(None) == ONE


def test_a_token_without_a_key_id_is_refused_when_there_are_several_keys() -> None:
    retired = KeyEntry(TWO, 2, expires_at=NOON)
    for keys in (KeySet.from_keys({1: ONE, 2: TWO}), KeySet([KeyEntry(ONE, 1), retired], clock=at_noon)):
        with pytest.raises(UnknownRootKey) as caught:
            keys.select(None)
        assert caught.value.code == "key.ambiguous"
    with pytest.raises(UnknownRootKey) as caught:
        KeySet([]).select(None)
    assert caught.value.code == "key.unknown"


def test_a_key_goes_from_active_through_retiring_to_retired() -> None:
    entry = KeyEntry(ONE, 1)
    assert entry.state(NOON) is KeyState.ACTIVE
    expiring = KeyEntry(ONE, 1, expires_at=NOON)
    assert expiring.state(NOON - SECOND) is KeyState.RETIRING
    assert expiring.state(NOON) is KeyState.RETIRED


def test_a_retired_key_is_refused_at_the_very_second() -> None:
    keys = KeySet([KeyEntry(ONE, 1, expires_at=NOON), KeyEntry(TWO, 2)], clock=at_noon)
    assert keys.select(1, at=NOON - SECOND) == ONE
    for at in (NOON, NOON + SECOND, None):
        with pytest.raises(UnknownRootKey, match="1 is retired") as caught:
            keys.select(1, at=at)
        assert caught.value.code == "key.retired"
    only = KeySet([KeyEntry(ONE, 1, expires_at=NOON)], clock=at_noon)
    with pytest.raises(UnknownRootKey, match="retired"):
        only.select(None)


def test_retiring_returns_another_set_and_keeps_the_clock() -> None:
    keys = KeySet.from_keys({1: ONE, 2: TWO}, clock=at_noon)
    after = keys.retire(1, NOON)
    assert keys.select(1) == ONE
    assert keys.version != after.version
    with pytest.raises(UnknownRootKey, match="retired"):
        after.select(1)
    with pytest.raises(UnknownRootKey):
        keys.retire(3, NOON)


def test_one_id_for_two_keys_is_refused() -> None:
    for key_id in (None, 0, 5):
        with pytest.raises(KeyFormatError, match="two keys"):
            KeySet([KeyEntry(ONE, key_id), KeyEntry(TWO, key_id)])


def test_one_key_under_two_ids_is_refused_but_not_under_one_and_none() -> None:
    with pytest.raises(KeyFormatError, match="one key"):
        KeySet.from_keys({1: ONE, 2: ONE})
    assert KeySet.from_keys({None: ONE, 1: ONE, 2: TWO}).select(None) == ONE


@pytest.mark.parametrize("key_id", [-1, 2**32])
def test_a_key_id_is_a_u32(key_id: int) -> None:
    with pytest.raises(KeyFormatError):
        KeyEntry(ONE, key_id)


def test_an_expiry_has_a_time_zone_and_is_in_range() -> None:
    with pytest.raises(KeyFormatError, match="time zone"):
        KeyEntry(ONE, 1, expires_at=datetime(2026, 3, 1))
    with pytest.raises(KeyFormatError, match="out of range"):
        KeyEntry(ONE, 1, expires_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))


def test_the_version_is_that_of_the_content() -> None:
    keys = KeySet.from_keys({1: ONE, 2: TWO})
    assert keys.version == KeySet.from_keys({2: TWO, 1: ONE}, clock=at_noon).version
    assert keys == KeySet.from_json(keys.to_json())
    assert len({keys, KeySet.from_json(keys.to_json())}) == 1
    paris = NOON.astimezone(timezone(timedelta(hours=1)))
    assert KeySet([KeyEntry(ONE, 1, expires_at=NOON)]) == KeySet([KeyEntry(ONE, 1, expires_at=paris)])
    versions = {
        keys.version,
        KeySet.from_keys({1: ONE}).version,
        KeySet.from_keys({1: TWO, 2: ONE}).version,
        KeySet.from_keys({None: ONE, 2: TWO}).version,
        KeySet([KeyEntry(ONE, 1, issuer="a"), KeyEntry(TWO, 2)]).version,
        KeySet([KeyEntry(ONE, 1, expires_at=NOON), KeyEntry(TWO, 2)]).version,
    }
    assert len(versions) == 6


def test_web_keys_are_written_and_read_back() -> None:
    entries = [
        KeyEntry(THREE),
        KeyEntry(ONE, 0),
        KeyEntry(P256, 4294967295, issuer="https://issuer.example", expires_at=NOON),
    ]
    keys = KeySet(reversed(entries))
    assert list(KeySet.from_json(keys.to_json())) == entries == list(keys)
    assert len(keys) == 3
    assert json.loads(keys.to_json()) == [
        {"algorithm": "ed25519", "key_bytes": THREE.to_bytes().hex()},
        {"algorithm": "ed25519", "key_bytes": ONE.to_bytes().hex(), "key_id": 0},
        {
            "algorithm": "secp256r1",
            "key_bytes": P256.to_bytes().hex(),
            "key_id": 4294967295,
            "issuer": "https://issuer.example",
            "expires_at": "2026-03-01T12:00:00Z",
        },
    ]


def test_null_members_are_as_if_left_out() -> None:
    item = {"algorithm": "ed25519", "key_bytes": ONE.to_bytes().hex(), "key_id": 1}
    text = json.dumps([{**item, "issuer": None, "expires_at": None}])
    assert KeySet.from_json(text.encode()) == KeySet.from_keys({1: ONE})


@pytest.mark.parametrize(
    "text",
    ["2026-03-01T12:00:00Z", "2026-03-01t12:00:00z", "2026-03-01T13:00:00+01:00", "2026-03-01T12:00:00.000Z"],
)
def test_expiry_is_an_rfc_3339_time(text: str) -> None:
    (entry,) = KeySet.from_json(json.dumps([web_key(expires_at=text)]))
    assert entry.expires_at == NOON


def web_key(**members: Any) -> dict[str, Any]:
    return {"algorithm": "ed25519", "key_bytes": ONE.to_bytes().hex(), "key_id": 1, **members}


BAD_JSON = {
    "empty": "",
    "not JSON": "[",
    "nested too deeply": "[" * 100_000,
    "not UTF-8": b"\xff",
    "an object": "{}",
    "a number in the list": "[1]",
    "a member twice": '[{"key_id": 1, "key_id": 2}]',
    "a misspelt member": json.dumps([web_key(expire_at="2026-03-01T12:00:00Z")]),
    "no algorithm": json.dumps([{"key_bytes": ONE.to_bytes().hex()}]),
    "another algorithm": json.dumps([web_key(algorithm="ed448")]),
    "an algorithm in capitals": json.dumps([web_key(algorithm="Ed25519")]),
    "no key": json.dumps([{"algorithm": "ed25519"}]),
    "a private key": json.dumps([web_key(algorithm="ed25519-private")]),
    "a key of another length": json.dumps([web_key(key_bytes="00")]),
    "a small-order key": json.dumps([web_key(key_bytes="00" * 32)]),
    "a key that is a list": json.dumps([web_key(key_bytes=[1])]),
    "an id that is text": json.dumps([web_key(key_id="1")]),
    "an id that is a truth": json.dumps([web_key(key_id=True)]),
    "an id that is a fraction": json.dumps([web_key(key_id=1.0)]),
    "an id out of range": json.dumps([web_key(key_id=2**32)]),
    "an id twice": json.dumps([web_key(), web_key(key_bytes=TWO.to_bytes().hex())]),
    "an issuer that is a number": json.dumps([web_key(issuer=1)]),
    "an expiry that is a number": json.dumps([web_key(expires_at=1)]),
    "an expiry without a zone": json.dumps([web_key(expires_at="2026-03-01T12:00:00")]),
    "an expiry that is a day": json.dumps([web_key(expires_at="2026-03-01")]),
    "an expiry on no day": json.dumps([web_key(expires_at="2026-02-30T12:00:00Z")]),
    "an expiry before all time": json.dumps([web_key(expires_at="0001-01-01T00:00:00+01:00")]),
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_anything_else_is_a_key_format_error(text: str | bytes) -> None:
    with pytest.raises(KeyFormatError):
        KeySet.from_json(text)


def test_the_set_is_not_changed_by_what_it_was_made_of() -> None:
    source: dict[int | None, PublicKey] = {1: ONE}
    keys = KeySet.from_keys(source)
    source[1] = TWO
    assert keys.select(1) == ONE


def test_repr_names_the_version_and_the_ids() -> None:
    keys = KeySet.from_keys({2: TWO, None: ONE})
    assert repr(keys) == f"<KeySet {keys.version[:12]}, key ids none, 2>"
