"""From a token that was just minted to its record in the registry."""

from typing import TYPE_CHECKING

from capability.cli.failures import usage

if TYPE_CHECKING:
    from capability.store import Owner, Record
    from capability.tokens import Biscuit


def record_of(token: "Biscuit", *, name: str | None, owner: str | None, actor: str | None) -> "Record":
    """Returns the record of a token: what it allows is read off its own block.

    Without `owner`, a fact `user("ann")`, `service(...)` or `agent(...)` names who holds it.
    """
    from capability.inspection import certain_expiry, remaining
    from capability.store import Record

    programs = [block.program for block in token.blocks]
    left = remaining(programs)
    try:
        return Record(
            root=token.canonical_revocation_ids[0],
            name=name,
            owner=_stated_owner(token) if owner is None else parse_owner(owner),
            tenant=left.tenants[0] if left.tenants is not None and len(left.tenants) == 1 else None,
            applications=left.applications,
            scopes=left.operations,
            root_key=repr(token.root_key),
            key_id=token.root_key_id(),
            expires=certain_expiry(programs),
            created_by=actor,
        )
    except ValueError as error:
        raise usage(str(error), "write --name, --owner and --actor as plain text") from error


def parse_owner(text: str) -> "Owner":
    """Returns the owner that an option means; raises Failure for one that is none."""
    from capability.store import Owner

    try:
        return Owner.parse(text)
    except ValueError as error:
        raise usage(str(error), "write --owner ann, user:ann, service:billing or agent:crawler") from error


def _stated_owner(token: "Biscuit") -> "Owner | None":
    from capability.datalog.terms import STRING
    from capability.store import Owner
    from capability.store.records import OWNER_KINDS

    for kind in OWNER_KINDS:
        for fact in token.blocks[0].program.facts:
            if fact.name == kind and fact.terms[0][0] == STRING and fact.terms[0][1]:
                return Owner(kind, str(fact.terms[0][1]))
    return None
