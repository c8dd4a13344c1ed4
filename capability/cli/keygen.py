"""`cap keygen`."""

from pathlib import Path

import click

from capability.cli.group import command
from capability.cli.inputs import Session
from capability.cli.keyfiles import write_key_pair
from capability.cli.noting import Trail
from capability.cli.options import store_option
from capability.cli.output import Result


@command(
    "keygen",
    "cap keygen root.key",
    "cap keygen --algorithm secp256r1 partner.key",
)
@click.argument("file", type=click.Path(path_type=Path), default="cap.key")
@click.option(
    "--algorithm",
    type=click.Choice(["ed25519", "secp256r1"]),
    default="ed25519",
    show_default=True,
    help="The signature algorithm.",
)
@click.option("--force", is_flag=True, help="Overwrite a key that is there: tokens made by it end with it.")
@click.option("--actor", envvar="CAP_ACTOR", show_envvar=True, help="Who makes it.")
@click.option("--no-store", is_flag=True, help="Do not note it in the audit trail.")
@store_option
@click.pass_obj
def keygen(
    session: Session,
    file: Path,
    algorithm: str,
    force: bool,
    actor: str | None,
    no_store: bool,
    store: str | None,
) -> Result:
    """Make a key pair: FILE (cap.key, if none is named) and FILE.pub.

    FILE holds the private key, readable by you alone: it mints tokens. FILE.pub holds the public key, which
    verifies them. The public key is printed.

    Where a store is named (--store, CAP_STORE, cap.toml), its audit trail says that the key was made, and by
    whom. It has the public key only.
    """
    from capability.keys import Algorithm, PrivateKey

    kind = Algorithm.Ed25519 if algorithm == "ed25519" else Algorithm.Secp256r1
    key = PrivateKey.generate(kind)
    with Trail(session, store, actor, wanted=not no_store) as trail:
        public_path = write_key_pair(key, file, overwrite=force)
        trail.note("made", key.public_key)
    data = {
        "algorithm": algorithm,
        "key_bytes": key.public_key.to_bytes().hex(),
        "public_key": repr(key.public_key),
        "private_key_file": str(file),
        "public_key_file": str(public_path),
    }
    return Result(text=repr(key.public_key), data=data)
