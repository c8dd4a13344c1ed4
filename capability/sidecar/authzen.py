"""AuthZEN 1.0: may this subject do this to that resource?

A question is `{"subject": ..., "action": ..., "resource": ..., "context": ...}`. The capability token stands
in `subject.properties.token`: it belongs to the subject, while an Authorization header would speak for the
program that asks. No token, no yes. What a policy is told:

| fact | from |
| --- | --- |
| `operation($name)` | `action.name` |
| `resource($id)` | `resource.id`, where `resource.type` is "resource"; one with `..` in it is refused |
| `application($a)`, `tenant($t)` | `context.application` and `context.tenant`, or the configuration |
| `authzen_subject($type, $id)` | who is asked about, as it came |
| `authzen_resource($type, $id)` | what is asked about, as it came |
| `authzen_string($of, $name, $value)` | properties of `$of`: "subject", "action", "resource", "context" |
| `authzen_integer(...)`, `authzen_bool(...)` | properties of these types |

A property in an object is named `outer.inner`, a list states each of its values, null states nothing, and
what the language has no term for (a fraction) is refused: a rule that denies must not be got around by it.
Ids of other types than "resource" are no `resource` by themselves, since 7 of one type is not 7 of another: a
policy says so, as in `resource($id) <- authzen_resource("order", $id)`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from capability.guard import Guard, RequestForm
from capability.sidecar.messages import BadRequest

EVALUATION: Final = "/access/v1/evaluation"
EVALUATIONS: Final = "/access/v1/evaluations"
CONFIGURATION: Final = "/.well-known/authzen-configuration"

MAX_EVALUATIONS: Final = 100
MAX_PROPERTIES: Final = 128
MAX_DEPTH: Final = 4

RESOURCE: Final = "resource"
"""The type whose ids are `resource(...)`."""

DEFAULT_POLICY: Final = """
deny if user($name), authzen_subject("user", $id), $name != $id;
deny if service($name), authzen_subject("service", $id), $name != $id;
deny if agent($name), authzen_subject("agent", $id), $name != $id;
allow if operation($operation);
"""
"""The policy when none is configured: a genuine token of that subject may do what its own checks let pass."""

_DOTS: Final = re.compile(r"(?:\A|[/\\])(?:\.|%2[Ee]){1,2}(?:[/\\]|\Z)")
_PARTS: Final = ("subject", "action", "resource", "context")
_NAMED: Final = ("application", "tenant")
_INT64: Final = range(-(2**63), 2**63)


class Semantic(StrEnum):
    """How far a list of questions is gone through."""

    EXECUTE_ALL = "execute_all"
    DENY_ON_FIRST_DENY = "deny_on_first_deny"
    PERMIT_ON_FIRST_PERMIT = "permit_on_first_permit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One evaluation. `token` is None where there is none; None elsewhere: it is not stated."""

    token: str | None
    operation: str
    subject: tuple[str, str]
    target: tuple[str, str]
    resource: str | None
    application: str | None
    tenant: str | None
    strings: tuple[tuple[str, str, str], ...] = ()
    integers: tuple[tuple[str, str, int], ...] = ()
    bools: tuple[tuple[str, str, bool], ...] = ()


class Forms:
    """How questions are asked of a guard: a form for each choice of what may be left unsaid."""

    def __init__(self, guard: Guard) -> None:
        self._forms: dict[tuple[bool, ...], RequestForm] = {}
        for stated in ((a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)):
            chosen = [name for name, is_stated in zip((RESOURCE, *_NAMED), stated, strict=True) if is_stated]
            self._forms[stated] = guard.form(
                ("operation", str),
                ("authzen_subject", str, str),
                ("authzen_resource", str, str),
                *((name, str) for name in chosen),
                several=(
                    ("authzen_string", str, str, str),
                    ("authzen_integer", str, str, int),
                    ("authzen_bool", str, str, bool),
                ),
            )

    def of(self, question: Question) -> tuple[RequestForm, tuple[Any, ...]]:
        """Returns the form for a question, and the values to ask it with."""
        optional = (question.resource, question.application, question.tenant)
        form = self._forms[tuple(each is not None for each in optional)]
        stated = [each for each in optional if each is not None]
        properties = (question.strings, question.integers, question.bools)
        return form, (question.operation, *question.subject, *question.target, *stated, *properties)


def question_of(body: Mapping[str, Any], known: Mapping[str, str]) -> Question:
    """Returns the question that an object is; raises BadRequest for one that is none.

    `known` is what the configuration says of application and tenant: a question cannot say otherwise.
    """
    subject, action, resource = (_part(body, name) for name in _PARTS[:3])
    context = _object(body.get("context", {}), "context")
    properties = _object(subject.get("properties", {}), "subject.properties")
    token = properties.get("token")
    if token is not None and not isinstance(token, str):
        raise BadRequest("authzen.token", "subject.properties.token is a text")
    named = {name: _named(context, name, known.get(name)) for name in _NAMED}
    found = list(_properties(subject, "subject", without=("token",)))
    found += _properties(action, "action")
    found += _properties(resource, "resource")
    found += _flat(context, "context", "", without=_NAMED)
    if len(found) > MAX_PROPERTIES:
        raise BadRequest("authzen.properties", f"there are more than {MAX_PROPERTIES} properties")
    target = (_text(resource, "resource", "type"), _text(resource, "resource", "id"))
    if target[0] == RESOURCE and _DOTS.search(target[1]) is not None:
        # a token that was narrowed to /orders would seem to be for /orders/../admin
        raise BadRequest("authzen.resource", "the id of the resource can be read in several ways")
    return Question(
        token=token,
        operation=_text(action, "action", "name"),
        subject=(_text(subject, "subject", "type"), _text(subject, "subject", "id")),
        target=target,
        resource=target[1] if target[0] == RESOURCE else None,
        application=named["application"],
        tenant=named["tenant"],
        strings=tuple(dict.fromkeys(each for each in found if type(each[2]) is str)),
        integers=tuple(dict.fromkeys(each for each in found if type(each[2]) is int)),
        bools=tuple(dict.fromkeys(each for each in found if type(each[2]) is bool)),
    )


def questions_of(body: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Semantic] | None:
    """Returns the objects of a list of questions, with the defaults filled in; None where there is no list.

    A member of an item replaces the default as a whole. Raises BadRequest.
    """
    items = body.get("evaluations")
    if items is None or items == []:
        return None
    if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
        raise BadRequest("authzen.evaluations", "evaluations is a list of objects")
    if len(items) > MAX_EVALUATIONS:
        raise BadRequest("authzen.evaluations", f"there are more than {MAX_EVALUATIONS} evaluations")
    options = _object(body.get("options", {}), "options")
    try:
        semantic = Semantic(options.get("evaluations_semantic", Semantic.EXECUTE_ALL.value))
    except ValueError as error:
        raise BadRequest(
            "authzen.semantic", f"evaluations_semantic is one of {', '.join(Semantic)}"
        ) from error
    defaults = {name: body[name] for name in _PARTS if name in body}
    return [{**defaults, **each} for each in items], semantic


def configuration(url: str) -> dict[str, str]:
    """Returns what a client finds out at CONFIGURATION; `url` is where it reaches the listener."""
    base = url.rstrip("/")
    return {
        "policy_decision_point": base,
        "access_evaluation_endpoint": base + EVALUATION,
        "access_evaluations_endpoint": base + EVALUATIONS,
    }


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name not in body:
        raise BadRequest("authzen.part", f"the request has no {name}")
    return _object(body[name], name)


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest("authzen.part", f"{name} is an object")
    return value


def _text(part: Mapping[str, Any], of: str, name: str) -> str:
    value = part.get(name)
    if not isinstance(value, str):
        raise BadRequest("authzen.part", f"{of}.{name} is a text")
    return _checked(value)


def _named(context: Mapping[str, Any], name: str, known: str | None) -> str | None:
    value = context.get(name)
    if value is None:
        return None  # what the configuration says is part of the policy
    if known is not None:
        if value != known:
            raise BadRequest("authzen.context", f"context.{name} is not what this listener is for")
        return None
    return _text(context, "context", name)


def _properties(part: Mapping[str, Any], of: str, without: tuple[str, ...] = ()) -> Iterator[Any]:
    properties = _object(part.get("properties", {}), f"{of}.properties")
    return _flat(properties, of, "", without=without)


def _flat(
    value: Any, of: str, name: str, depth: int = 0, without: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, str | int | bool]]:
    """Yields what a property states; raises BadRequest for what no term can be."""
    if depth > MAX_DEPTH:
        raise BadRequest("authzen.properties", "a property is nested too deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            if depth > 0 or key not in without:
                yield from _flat(inner, of, f"{name}.{key}" if name else key, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(inner, of, name, depth + 1)
    elif isinstance(value, str):
        yield of, _checked(name), _checked(value)
    elif isinstance(value, bool) or (isinstance(value, int) and value in _INT64):
        yield of, _checked(name), value
    elif value is not None:
        raise BadRequest("authzen.properties", f"a property of {of} is a number that no policy can read")


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest("request.json", "a text of the request is not valid Unicode") from error
    return text
