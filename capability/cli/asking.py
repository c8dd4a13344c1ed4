"""`cap verify --sidecar`: a running `cap serve` is asked, and nothing that decides is loaded here.

The question is an AuthZEN evaluation. HTTP is spoken by hand, since loading the standard library's client
takes longer than all the rest.
"""

import json
import os
import re
import socket
import stat
from time import monotonic
from typing import Any, Final

from capability.cli.failures import Exit, Failure, hint_for, usage
from capability.cli.inputs import Session
from capability.cli.options import on_command_line
from capability.cli.output import Result

TIMEOUT: Final = 10.0
"""Seconds for the whole answer, however it comes."""
MAX_ANSWER: Final = 4 << 20
"""Bytes of it."""

EXITS: Final = {
    "allowed": Exit.DONE,
    "denied": Exit.DENIED,
    "revoked": Exit.DENIED,
    "expired": Exit.DENIED,
    "invalid_token": Exit.TOKEN_OR_KEY,
    "execution_error": Exit.PROGRAM,
    "store_unavailable": Exit.STORE,
    "limit_reached": Exit.LIMIT,
}
"""What an outcome exits with; the same as `capability.decision.EXIT_CODES`, which costs time to load."""

_ADDRESS: Final = re.compile(r"unix:(/.+)|tcp:(?:(127\.0\.0\.1|localhost|\[::1\]):)?([0-9]{1,5})", re.DOTALL)
_REASON: Final = b"\r\nx-cap-reason: "
"""What every no of the check has, and none of the API."""

_HEAD: Final = re.compile(rb"HTTP/1\.1 (\d{3}) .*?\r\ncontent-length: (\d+)\r\n", re.DOTALL | re.IGNORECASE)


def ask(
    session: Session,
    token: str | None,
    sidecar: str,
    *,
    applications: tuple[str, ...],
    operations: tuple[str, ...],
    resources: tuple[str, ...],
    tenants: tuple[str, ...],
    raw: bool,
    **elsewhere: Any,
) -> Result:
    """Returns the sidecar's decision as a result; of several questions, that about the first no.

    `elsewhere` are the options that say by what is decided: with a sidecar, its configuration does.
    """
    # $CAP_STORE and its like are for other commands too
    given = [name for name, value in elsewhere.items() if value and on_command_line(name, value)]
    if given:
        raise usage(
            "with --sidecar its own configuration decides, and nothing else can be said",
            "leave out all but the token, --operation, --application, --resource and --tenant",
        )
    if not operations:
        raise usage("a sidecar is asked about an operation", "name one with --operation")
    text = session.token_text(token, raw=raw)
    asked = [
        _question(text, operation, application, resource, tenant)
        for operation in dict.fromkeys(operations)
        for application in dict.fromkeys(applications) or (None,)
        for resource in dict.fromkeys(resources) or (None,)
        for tenant in dict.fromkeys(tenants) or (None,)
    ]
    body = {"evaluations": asked, "options": {"evaluations_semantic": "deny_on_first_deny"}}
    found = _post(sidecar, "/access/v1/evaluations", json.dumps(body).encode())
    answers = found.get("evaluations")
    if not isinstance(answers, list) or not answers or not all(isinstance(each, dict) for each in answers):
        raise _strange()
    # not every decision point knows that it may stop at the first no, and the last answer may then be a yes
    found_no = next((each for each in answers if each.get("decision") is not True), None)
    if found_no is None and len(answers) != len(asked):
        raise _strange()
    return _result(answers[-1] if found_no is None else found_no)


def _question(
    token: str, operation: str, application: str | None, resource: str | None, tenant: str | None
) -> dict[str, Any]:
    named = {"application": application, "tenant": tenant}
    return {
        "subject": {"type": "token", "id": "bearer", "properties": {"token": token}},
        "action": {"name": operation},
        "resource": {"type": "none", "id": ""} if resource is None else {"type": "resource", "id": resource},
        "context": {name: value for name, value in named.items() if value is not None},
    }


def _result(answer: dict[str, Any]) -> Result:
    """Returns an answer as `cap verify` gives its own. Only true, with the outcome of a yes, is one."""
    context = answer.get("context")
    context = context if isinstance(context, dict) else {}
    outcome = context.get("outcome")
    exit_code = EXITS.get(outcome) if isinstance(outcome, str) else None
    if exit_code is None or (answer.get("decision") is True) is not (exit_code is Exit.DONE):
        error = context.get("error")
        message = error.get("message") if isinstance(error, dict) else None
        raise _strange() if not isinstance(message, str) else usage(_one_line(message), "see docs/sidecar.md")
    decision = context.get("decision")
    data = decision if isinstance(decision, dict) else context
    reason = data.get("reason")
    if not isinstance(reason, str):
        reason = str(outcome) if exit_code is Exit.DONE else str(context.get("reason_user", {}).get("en", ""))
    line, word = _one_line(reason), str(outcome)
    data = {**data, "revocation_checked": data.get("revocation_revision") is not None}
    if exit_code in (Exit.DONE, Exit.DENIED):
        return Result(line if line.startswith(word) else f"{word}: {line}", data, exit=exit_code)
    code = str(data.get("code", word))
    failure = Failure(exit_code, code, line or word, hint_for(code))
    return Result("", data, exit=exit_code, failure=failure)


def _post(address: str, path: str, body: bytes) -> dict[str, Any]:
    """Returns the object that a sidecar answers; raises Failure for whatever else happens."""
    place = _ADDRESS.fullmatch(address)
    if place is None:
        raise usage(
            "--sidecar: that is no address of this host",
            "write unix:/PATH, tcp:PORT or tcp:127.0.0.1:PORT",
        )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Cap-Explain: 1\r\nConnection: close\r\n\r\n"
    )
    received = bytearray()
    end = monotonic() + TIMEOUT
    try:
        with _connected(place) as connection:
            connection.sendall(head.encode() + body)
            while len(received) <= MAX_ANSWER and (part := connection.recv(65536)):
                received += part
                connection.settimeout(max(end - monotonic(), 0.001))
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or "no answer").lower()
        raise Failure(
            Exit.STORE,
            "sidecar.unavailable",
            f"the sidecar cannot be asked: {reason}",
            "see that `cap serve --api` runs at this address",
        ) from error
    start, _, content = bytes(received).partition(b"\r\n\r\n")
    found = _HEAD.match(start + b"\r\n")
    if found is None or int(found[2]) != len(content):
        raise _strange()
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _strange() from error
    if not isinstance(answer, dict):
        raise _strange()
    if found[1] == b"200":
        return answer
    if _REASON in start.lower():
        raise Failure(
            Exit.USAGE,
            "sidecar.refused",
            "what answers at this address checks requests and takes no questions",
            "name the address of `cap serve --api`, which is not that of --listen",
        )
    if found[1] == b"401":
        raise Failure(
            Exit.USAGE,
            "sidecar.refused",
            "the sidecar answers only those who show a token of their own, which `cap verify` does not",
            "ask it by another client, or leave authenticate out of [serve.api]",
        )
    detail = answer.get("detail")
    unavailable = found[1] == b"503"
    raise Failure(
        Exit.STORE if unavailable else Exit.USAGE,
        "sidecar.unavailable" if unavailable else "sidecar.refused",
        f"the sidecar refuses the question: {_one_line(detail if isinstance(detail, str) else '')}",
        "see docs/sidecar.md",
    )


def _connected(place: re.Match[str]) -> socket.socket:
    path, host, port = place.groups()
    if path is None:
        return socket.create_connection(((host or "127.0.0.1").strip("[]"), int(port)), TIMEOUT)
    _check_owner(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_owner(path: str) -> None:
    """Raises Failure for a socket that anybody may have put there: who listens is handed the token.

    A sidecar runs as a user of its own, so its socket may be anybody's in a folder that not everybody can
    write to.
    """
    folder, owner = os.stat(os.path.dirname(path)), os.lstat(path).st_uid
    if folder.st_mode & stat.S_IWOTH and owner not in (0, os.geteuid()):
        raise Failure(
            Exit.USAGE,
            "sidecar.owner",
            f"anybody can have put the socket {path!r} there, and would get the token",
            "have `cap serve` listen in a folder that others cannot write to, such as /run/cap",
        )


def _one_line(text: str) -> str:
    """Returns what a sidecar says so that it cannot pass for another line, or move the cursor."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _strange() -> Failure:
    return Failure(
        Exit.STORE,
        "sidecar.answer",
        "what answers at this address is no sidecar, or another version of it",
        "name the address of `cap serve --api`",
    )
