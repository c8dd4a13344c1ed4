"""What the store keeps as text in Redis: records, acts and rules, in and out."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from capability.errors import StoreSchemaError
from capability.store.moments import micros, moment
from capability.store.records import Owner, Record, Revocation, Rule, Selection


def record_text(record: Record) -> str:
    """Returns a record as it is kept: JSON, without what is None."""
    values = {
        "id": record.id,
        "root": record.root.hex(),
        "name": record.name,
        "owner": None if record.owner is None else str(record.owner),
        "tenant": record.tenant,
        "applications": record.applications,
        "scopes": record.scopes,
        "root_key": record.root_key,
        "key_id": record.key_id,
        "created": micros(record.created),
        "expires": None if record.expires is None else micros(record.expires),
        "created_by": record.created_by,
    }
    return _json({name: value for name, value in values.items() if value is not None})


def record_of(row: Sequence[Any]) -> Record:
    """Returns the record that the script's `described` tells of."""
    text, used, revoked, _ = row
    try:
        values = json.loads(text)
        return Record(
            root=bytes.fromhex(values["root"]),
            id=values["id"],
            name=values.get("name"),
            owner=Owner.parse(values["owner"]) if "owner" in values else None,
            tenant=values.get("tenant"),
            applications=_tuple(values.get("applications")),
            scopes=_tuple(values.get("scopes")),
            root_key=values.get("root_key"),
            key_id=values.get("key_id"),
            created=moment(values["created"]),
            expires=None if "expires" not in values else moment(values["expires"]),
            created_by=values.get("created_by"),
            last_used=None if used is None else moment(int(used)),
            revoked=bool(revoked),
        )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise StoreSchemaError("the store holds a record that cannot be read") from error


def index_names(record: Record) -> list[str]:
    """Returns the indexes that a record stands in. One without a restriction fits every application."""
    names = []
    if record.owner is not None:
        names.append(f"owner:{record.owner}")
    if record.tenant is not None:
        names.append(f"tenant:{record.tenant}")
    if record.name is not None:
        names.append(f"name:{record.name}")
    if record.expires is not None:
        names.append("expiry")
    if record.applications is None:
        names.append("unrestricted")
    return names + [f"application:{each}" for each in dict.fromkeys(record.applications or ())]


def indexes_for(selection: Selection) -> list[tuple[str, ...]]:
    """Returns which indexes, read together, hold all records that are meant: each of the choices does."""
    choices: list[tuple[str, ...]] = []
    if selection.owner is not None:
        choices.append((f"owner:{selection.owner}",))
    if selection.tenant is not None:
        choices.append((f"tenant:{selection.tenant}",))
    if selection.name is not None:
        choices.append((f"name:{selection.name}",))
    if selection.application is not None:
        choices.append(("unrestricted", f"application:{selection.application}"))
    return choices


def act_text(reason: str | None, actor: str | None, at: datetime) -> str:
    """Returns why, by whom and when something was revoked, as it is kept."""
    values = {"reason": reason, "actor": actor, "at": micros(at)}
    return _json({name: value for name, value in values.items() if value is not None})


def revocation_of(row: Sequence[Any]) -> Revocation:
    """Returns the revocation that a row of the script's `revocations` holds."""
    place, revocation_id, value, act = row
    try:
        kept, _, expires = value.decode().partition(" ")
        reason, actor, at = _act(act)
        if kept != place.decode():
            raise ValueError("it stands in another place of the feed")
        return Revocation(
            revocation_id,
            reason,
            actor,
            at,
            int(kept.partition("-")[0]),
            moment(int(expires)) if expires else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise StoreSchemaError("the store holds a revocation that cannot be read") from error


def rule_of(row: Sequence[Any]) -> Rule:
    """Returns the rule that a row of the script's `rules` holds."""
    who, line, act = row
    try:
        kind, _, value = who.decode().partition(":")
        _, before, revision = line.decode().split(" ")
        reason, actor, at = _act(act)
        return Rule(
            owner=Owner.parse(value) if kind == "owner" else None,
            tenant=value if kind == "tenant" else None,
            before=None if before == "-" else moment(int(before)),
            reason=reason,
            actor=actor,
            at=at,
            revision=int(revision),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise StoreSchemaError("the store holds a rule that cannot be read") from error


def rule_key(rule: Rule) -> str:
    """Returns whom a rule means, as it is kept; the index of the records has the same name."""
    return f"owner:{rule.owner}" if rule.owner is not None else f"tenant:{rule.tenant}"


def rule_place(row: Sequence[Any]) -> int:
    """Returns the serial of the last record that a rule means."""
    return int(row[1].partition(b" ")[0])


def _act(text: Any) -> tuple[str | None, str | None, datetime]:
    values = json.loads(text)
    return values.get("reason"), values.get("actor"), moment(values["at"])


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
