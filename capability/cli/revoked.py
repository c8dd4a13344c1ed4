"""`cap revoked`."""

from typing import TYPE_CHECKING, Any

import click

from capability.cli.chains import chain_of, id_option, parse_id, record_ids, shown_id
from capability.cli.failures import Exit, usage
from capability.cli.group import DefaultGroup, command
from capability.cli.inputs import Session
from capability.cli.moments import rfc_3339
from capability.cli.options import raw_option, root_options, store_option, token_argument
from capability.cli.output import Result, one_line
from capability.cli.stores import url_for_reading

if TYPE_CHECKING:
    from capability.store import Revocation, Rule


@click.group(
    "revoked",
    cls=DefaultGroup,
    default="list",
    lazy={
        "list": ("revoked", "list_", "List what is revoked, or look a token up; `list` may be left out."),
        "export": ("signed", "export", "Sign what is revoked, for verifiers that cannot reach the store."),
        "verify": ("signed", "verify", "Check a file of signed revocations, and show what it says."),
    },
)
def revoked() -> None:
    """List what is revoked; look a token up; sign what is revoked for others."""


@command("list", "cap revoked", "cap revoked list --json", "cap revoked token", "cap revoked --id 5f2c...")
@token_argument
@id_option
@root_options
@raw_option
@store_option
@click.pass_obj
def list_(
    session: Session,
    token: str | None,
    identifiers: tuple[str, ...],
    public_key: str | None,
    keys: str | None,
    raw: bool,
    store: str | None,
) -> Result:
    """List what is revoked; or say whether TOKEN, or an id, is.

    TOKEN is a file, or - for stdin; without it and without --id, all revocations are listed. The exit code
    is 1 when TOKEN or one of the ids is revoked.
    """
    if token is not None and identifiers:
        raise usage("both a token and --id were given", "leave one of them out")
    asked: list[str | bytes] | None = None
    notes: tuple[str, ...] = ()
    if identifiers:
        asked = [each if each.startswith("tok_") else parse_id(each) for each in identifiers]
    elif token is not None:
        chain, notes = chain_of(session, token, public_key, keys, raw=raw)
        asked = [*chain.ids, *chain.marks]
    url = url_for_reading(session, store)
    listed: tuple[Revocation, ...] = ()
    rules: tuple[Rule, ...] = ()
    if url is None:
        notes = (*notes, "there is no store yet, and none is configured")
    else:
        from capability.store import open_store

        with open_store(url) as opened:
            listed, rules = opened.revocations(), opened.rules()
            if asked is not None:
                ids = record_ids(opened, asked)
                listed = tuple(each for each in listed if each.id in ids)
                # Only the store knows which tokens a rule means.
                hit = bool(listed) or opened.status(ids).revoked_id is None
                record = None if hit else next(filter(None, map(opened.registered, ids)), None)
                rules = tuple(each for each in rules if record is not None and each.names(record))
    data = {
        "revocations": [_as_data(each) for each in listed],
        "rules": [_rule_as_data(each) for each in rules],
    }
    lines = [*map(_as_line, listed), *map(_rule_as_line, rules)]
    text = "\n".join(lines) or ("nothing is revoked" if asked is None else "not revoked")
    return Result(text, data, exit=Exit.DENIED if asked is not None and lines else Exit.DONE, notes=notes)


def _as_data(revocation: "Revocation") -> dict[str, Any]:
    return {
        "id": shown_id(revocation.id),
        "reason": revocation.reason,
        "actor": revocation.actor,
        "at": rfc_3339(revocation.at),
        "revision": revocation.revision,
    }


def _rule_as_data(rule: "Rule") -> dict[str, Any]:
    return {
        "owner": None if rule.owner is None else str(rule.owner),
        "tenant": rule.tenant,
        "before": None if rule.before is None else rfc_3339(rule.before),
        "reason": rule.reason,
        "actor": rule.actor,
        "at": rfc_3339(rule.at),
        "revision": rule.revision,
    }


def _as_line(revocation: "Revocation") -> str:
    return _line(f"{rfc_3339(revocation.at)}  {shown_id(revocation.id)}", revocation)


def _rule_as_line(rule: "Rule") -> str:
    whose = f"tenant {rule.tenant}" if rule.owner is None else str(rule.owner)
    when = "" if rule.before is None else f" before {rfc_3339(rule.before)}"
    return _line(f"{rfc_3339(rule.at)}  all of {whose}{when}", rule)


def _line(line: str, entry: "Revocation | Rule") -> str:
    if entry.actor:
        line += f"  by {entry.actor}"
    if entry.reason:
        line += f"  {entry.reason}"
    return one_line(line)
