"""Bodies of requests, read in one way only: JSON without doubles, and forms."""

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from capability.sidecar.messages import BadRequest, Headers

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
MAX_FIELDS: Final = 16


class WrongMediaType(Exception):
    """The body is of another kind than the one that is read here."""


def read_json(headers: Headers, body: bytes) -> dict[str, Any]:
    """Returns the object that a body is; raises WrongMediaType and BadRequest.

    Refused are a member that stands there twice, of which two programs may see different ones, numbers that
    JSON does not have, and whatever is nested too deep to be read.
    """
    _check_type(headers, JSON)
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("request.json", "the body is not JSON that can be read in one way only") from error
    if not isinstance(value, dict):
        raise BadRequest("request.json", "the body is no JSON object")
    return value


def read_form(headers: Headers, body: bytes) -> Mapping[str, str]:
    """Returns the fields of a form; raises WrongMediaType, and BadRequest for a field that is there twice."""
    fields = read_fields(headers, body)
    found = dict(fields)
    if len(found) != len(fields):
        raise BadRequest("request.form", "a field of the form is there twice")
    return found


def read_fields(headers: Headers, body: bytes) -> list[tuple[str, str]]:
    """Returns the fields of a form as they came, twice where they came twice; raises as `read_form`."""
    _check_type(headers, FORM)
    try:
        return parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise BadRequest("request.form", "the body is no form that can be read") from error


def _check_type(headers: Headers, wanted: str) -> None:
    said = [value for name, value in headers if name.lower() == b"content-type"]
    if len(said) != 1:
        raise WrongMediaType(wanted)
    kind, _, parameters = said[0].decode("latin-1").lower().partition(";")
    if kind.strip() != wanted or parameters.replace(" ", "").strip(";") not in ("", "charset=utf-8"):
        raise WrongMediaType(wanted)


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member is there twice")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
