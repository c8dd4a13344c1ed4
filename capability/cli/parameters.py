"""--param name[:type]=value: values for the {name} in Datalog."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from capability.cli.failures import usage

if TYPE_CHECKING:
    from capability.builders import StatementBuilder
    from capability.datalog.program import Program, Rule

_PARAMETER: Final = re.compile(r"(\w+)(?::(\w+))?=(.*)", re.DOTALL)
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_BYTES: Final = re.compile(r"(?:hex:)?((?:[0-9a-fA-F]{2})*)")

HINT: Final = "write name=text or name:type=value; types: string, integer, bool, date, bytes, null, key, term"


@dataclass(frozen=True, slots=True)
class Parameters:
    """Values for terms, and public keys for what follows `trusting`."""

    terms: Mapping[str, Any]
    keys: Mapping[str, Any]


def parse_parameters(texts: Iterable[str]) -> Parameters:
    """Returns the parameters of --param options. Raises Failure for one that cannot be read."""
    terms: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    for text in texts:
        found = _PARAMETER.fullmatch(text)
        if found is None:
            raise usage("a --param is not name=value", HINT)
        name, kind, value = found[1], found[2] or "string", found[3]
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            raise usage(f"--param {name}: the value is not valid Unicode", "write it in UTF-8")
        if name in terms or name in keys:
            raise usage(f"--param {name} was given twice", "give each name one value")
        if kind in ("key", "pubkey"):
            from capability.cli.keyfiles import public_key

            keys[name] = public_key(value)
        else:
            terms[name] = _value(name, kind, value)
    return Parameters(terms, keys)


def add_datalog(builder: "StatementBuilder", sources: Sequence[str], params: Iterable[str]) -> None:
    """Adds Datalog to a block, its {names} replaced by --param. Raises as parsing does, and Failure for a
    parameter that no source names."""
    from capability.datalog.parser import parse_block

    parameters = parse_parameters(params)
    for source in sources:
        builder.add_code(source, parameters.terms, parameters.keys)
    check_used(parameters, [parse_block(source) for source in sources])


def check_used(parameters: Parameters, programs: Iterable["Program | Rule"]) -> None:
    """Raises Failure when a parameter is named by none of the programs: it was meant for something."""
    given = {*parameters.terms, *parameters.keys}
    if given:
        from capability.datalog.parameters import names

        found = [names(program) for program in programs]
        unused = given.difference(*(each.terms | each.keys for each in found))
        if unused:
            raise usage(
                f"no Datalog names {{{min(unused)}}}, which --param gives",
                "write {name} in it, or leave it out",
            )


def _value(name: str, kind: str, value: str) -> Any:
    """Returns what `value` means, spelt as Datalog spells it; raises Failure for what no term can be."""
    from capability.datalog.values import to_term

    try:
        result = _read(name, kind, value)
        to_term(result)
    except ValueError as error:
        raise usage(f"--param {name}: the value is no {kind}", HINT) from error
    return result


def _read(name: str, kind: str, value: str) -> Any:
    match kind, value:
        case "string" | "str", _:
            return value
        case "integer" | "int", _ if _INTEGER.fullmatch(value):
            return int(value)
        case "bool", "true" | "false":
            return value == "true"
        case "bytes", _ if found := _BYTES.fullmatch(value):
            return bytes.fromhex(found[1])
        case "null", "" | "null":
            return None
        case "date", _:
            from capability.cli.moments import parse_time

            return parse_time(value, f"--param {name}")
        case "term", _:
            from capability.datalog.parser import parse_term
            from capability.datalog.values import from_term

            return from_term(parse_term(value))
        case "integer" | "int" | "bool" | "bytes" | "null", _:
            raise ValueError(value)
        case _:
            raise usage(f"--param {name}: there is no type {kind!r}", HINT)
