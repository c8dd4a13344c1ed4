"""`cap revoked export` and `cap revoked verify`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from capability.cli import keyfiles
from capability.cli.audit import open_existing
from capability.cli.failures import Exit, Failure, usage
from capability.cli.group import command
from capability.cli.inputs import Session
from capability.cli.moments import parse_moment, rfc_3339
from capability.cli.options import private_key_option, root_options, store_option
from capability.cli.output import Result, write_file
from capability.datalog.terms import DATE_MAX

_DELTA_HINTS: Final = {
    "revocations.signature": "name the private key that signed that file with --private-key",
    "revocations.name": "name the list of that file with --name",
    "revocations.expired": "export a full list: leave --delta-from out",
}
"""What to try where `--delta-from` is refused: the options of a verifier are not those of who signs."""


@command(
    "export",
    "cap revoked export --out revoked.signed --valid-for 1d",
    "cap revoked export --out delta.signed --valid-for 1d --delta-from revoked.signed",
)
@click.option("--out", required=True, metavar="FILE", help="Write it there, whole or not at all.")
@click.option(
    "--valid-for", required=True, metavar="WHEN", help="How long verifiers may go by it: 1d, 12h, 30m."
)
@click.option("--since", type=click.IntRange(min=0), metavar="REVISION", help="Only what came after this.")
@click.option("--delta-from", metavar="FILE", help="Only what came after this file, which is checked first.")
@click.option(
    "--name", metavar="NAME", help="Which list this is, where the key signs those of several stores."
)
@private_key_option
@store_option
@click.pass_obj
def export(
    session: Session,
    out: str,
    valid_for: str,
    since: int | None,
    delta_from: str | None,
    name: str | None,
    private_key: str | None,
    store: str | None,
) -> Result:
    """Sign what is revoked, for verifiers that cannot reach the store.

    A full list, or with --since or --delta-from what came after a revision. FILE is replaced. Past
    --valid-for a verifier that got nothing newer denies, so export more often than that. --private-key may be
    a key for this alone, and should be: it is used every day.
    """
    from capability.errors import SignedRevocationsError
    from capability.store.signed import SignedRevocations, export_delta, export_full

    lasts = parse_moment(valid_for, "--valid-for")
    if not isinstance(lasts, timedelta) or lasts < timedelta(seconds=1):
        raise usage("--valid-for is a duration of a second or more", "write 1d, 12h or 30m")
    if since is not None and delta_from is not None:
        raise usage("both --since and --delta-from were given", "leave one of them out")
    if len((name or "").encode()) > 255:
        raise usage("--name has more than 255 bytes", "choose a shorter one")
    key = keyfiles.private_key(session, private_key)
    if delta_from is not None:
        try:
            before = SignedRevocations.load(delta_from, key.public_key, name=name)
        except SignedRevocationsError as error:
            hint = _DELTA_HINTS.get(error.code)
            if hint is None:
                raise
            raise Failure(Exit.STORE, error.code, str(error), hint) from error
        since, name = before.revision(), before.name
    with open_existing(session, store) as opened:
        if since is None:
            data = export_full(opened, key, valid_for=lasts, name=name or "")
        else:
            data = export_delta(opened, key, since=since, valid_for=lasts, name=name or "")
    write_file(Path(out), data, mode=0o644, overwrite=True)
    from capability.store.signed_parts import read

    (part,) = read(data, key.public_key, now=0)
    said = _said(part.name, part.revision, part.issued, part.valid_until)
    said |= {"base": part.base, "ids": len(part.digests)}
    what = "all that is revoked" if since is None else f"what was revoked after revision {since}"
    return Result(
        f"signed {what}: {counted(len(part.digests))}, {len(data)} bytes, at revision {part.revision},"
        f" valid until {said['valid_until']}",
        {**said, "bytes": len(data)},
    )


@command(
    "verify",
    "cap revoked verify revoked.signed",
    "cap revoked verify revoked.signed --revocations-key revoked.pub --json",
)
@click.argument("file")
@click.option(
    "--revocations-key",
    metavar="KEY|FILE",
    envvar="CAP_REVOCATIONS_KEY",
    show_envvar=True,
    help="The key that signs it, if it is not the issuer's.",
)
@click.option(
    "--revocations-name",
    metavar="NAME",
    envvar="CAP_REVOCATIONS_NAME",
    show_envvar=True,
    help="Which list it must be, if the key signs several.",
)
@root_options
@click.pass_obj
def verify(
    session: Session,
    file: str,
    revocations_key: str | None,
    revocations_name: str | None,
    public_key: str | None,
    keys: str | None,
) -> Result:
    """Check that FILE is signed, whole and not over, and show its revision, its times and how many ids.

    The exit code is 5 for a file that a verifier would refuse.
    """
    from capability.store.signed import SignedRevocations

    signer = revocations_key or session.config.revocations_key
    if signer is None:
        trusted = keyfiles.required_public_keys(session, public_key, keys)
    else:
        trusted = keyfiles.public_key(signer)
    found = SignedRevocations.load(file, trusted, name=revocations_name or session.config.revocations_name)
    said = _said(found.name, found.revision(), found.issued, found.valid_until)
    return Result(
        f"good: {counted(len(found))}, at revision {said['revision']}, signed {said['issued']},"
        f" valid until {said['valid_until']}",
        {**said, "ids": len(found)},
    )


def _said(name: str, revision: int, issued: int, valid_until: int) -> dict[str, Any]:
    return {
        "name": name,
        "revision": revision,
        "issued": _moment(issued),
        "valid_until": _moment(valid_until),
    }


def _moment(seconds: int) -> str:
    return rfc_3339(datetime.fromtimestamp(min(seconds, DATE_MAX), UTC))


def counted(ids: int) -> str:
    """Returns how many ids there are, in words."""
    return "1 id" if ids == 1 else f"{ids} ids"
