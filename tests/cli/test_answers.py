"""What commands answer: minting, narrowing, inspecting, deciding, querying, in text and as JSON."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from capability.cli.entry import cap
from capability.cli.failures import redact
from capability.cli.group import LazyGroup
from capability.cli.moments import in_words, parse_moment
from capability.cli.results import size_notes
from capability.decision import Decision
from tests.cli.conftest import OVER, ROOT, Shell

READ = ("-a", "orders", "-o", "read")


def test_mint_answers_with_a_token_and_nothing_else(issuer: Shell) -> None:
    run = issuer.cap("mint", "a(1);")
    assert re.fullmatch(r"[A-Za-z0-9_-]+={0,2}\n", run.text)
    assert run.stderr == ""
    document = issuer.cap("mint", "a(1);", "--json", "--no-store").json
    assert set(document) == {"token", "size", "blocks", "sealed", "revocation_ids"}
    registered = issuer.cap("mint", "a(1);", "--json").json
    assert set(registered) - set(document) == {"id"}
    assert document["size"] == len(document["token"])
    assert document["blocks"] == 1


def test_every_restriction(issuer: Shell) -> None:
    token = issuer.ok(
        "mint",
        *("-a", "orders", "-a", "invoices", "-o", "read", "-t", "acme", "-r", "/orders"),
        *("--expires", "2035-01-01T00:00:00Z", "--not-before", "2020-01-01T00:00:00+01:00"),
    )
    document = issuer.cap("inspect", "--json", stdin=token).json
    assert document["applications"] == ["invoices", "orders"]
    assert document["operations"] == ["read"]
    assert document["tenants"] == ["acme"]
    assert document["resources"] == ["/orders", "/orders/*"]
    assert document["expires"] == "2035-01-01T00:00:00Z"
    assert document["not_before"] == "2019-12-31T23:00:00Z"
    request = ("-a", "orders", "-o", "read", "-t", "acme", "-r", "/orders/7")
    assert issuer.cap("verify", *request, stdin=token).exit == 0
    for index in range(1, len(request), 2):
        wrong = [*request[:index], "other", *request[index + 1 :]]
        assert issuer.cap("verify", *wrong, stdin=token).exit == 1
        without = [*request[: index - 1], *request[index + 1 :]]
        assert issuer.cap("verify", *without, stdin=token).exit == 1


def test_expired(issuer: Shell) -> None:
    token = issuer.ok("mint", *OVER)
    run = issuer.cap("verify", stdin=token)
    assert run.exit == 1
    assert run.text.startswith("expired: ")
    assert "years" not in run.text
    assert "days ago (2020-01-01T00:00:00Z)" in issuer.ok("inspect", stdin=token)
    assert issuer.cap("inspect", "--json", stdin=token).json["expired"] is True


def test_a_large_token_is_warned_about(issuer: Shell) -> None:
    datalog = issuer.write("large.datalog", "".join(f'a("{number:0200}");' for number in range(40)))
    run = issuer.cap("mint", datalog)
    assert run.exit == 0
    assert run.stderr.startswith("warning: the token has ")
    for command in (("inspect",), ("attenuate", "--operation", "read")):
        assert issuer.cap(*command, stdin=run.stdout).stderr.startswith("warning: the token has ")


def test_a_token_is_large_above_6_kib() -> None:
    assert size_notes("a" * 6 * 1024) == ()
    assert len(size_notes("a" * (6 * 1024 + 1))) == 1


def test_inspect_prints_no_token(issuer: Shell) -> None:
    token = (issuer.folder / "token").read_text()
    for arguments in ((), ("--json",)):
        text = issuer.ok("inspect", "token", *arguments)
        assert token[:60] not in text
        assert token[-60:] not in text


def test_inspect_shows_what_would_hide(issuer: Shell) -> None:
    token = issuer.ok("mint", 'user("ann\nvalid for    everybody\u202e\x1b[2J");')
    text = issuer.ok("inspect", stdin=token)
    assert text.count("valid for") == 3
    assert len([line for line in text.splitlines() if line.startswith("valid for")]) == 1
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_inspect_without_a_key_says_so(shell: Shell) -> None:
    token = shell.ok("mint", "a(1);", env={"CAP_PRIVATE_KEY": ROOT.text()})
    assert shell.ok("inspect", stdin=token).startswith("valid for    not verified: ")
    assert shell.cap("inspect", "--json", stdin=token).json["verified"] is None


def test_verify_as_json_is_a_decision(issuer: Shell) -> None:
    run = issuer.cap("verify", "token", *READ, "--json")
    schema = Decision.json_schema()
    assert set(schema["properties"]) <= set(run.json)
    assert run.json["outcome"] == "allowed"
    denied = issuer.cap("verify", "token", "-a", "orders", "-o", "delete", "--json")
    assert denied.exit == 1
    assert denied.json["outcome"] == "denied"
    assert denied.json["failed_checks"][0]["block"] == 0


def test_verify_asks_for_each_of_several(issuer: Shell) -> None:
    assert issuer.cap("verify", "token", "-a", "orders", "-o", "read", "-o", "write").exit == 0
    assert issuer.cap("verify", "token", "-a", "orders", "-o", "read", "-o", "delete").exit == 1
    assert issuer.cap("verify", "token", "-a", "orders", "-a", "other", "-o", "read").exit == 1


def test_verify_with_facts_policies_and_parameters(issuer: Shell) -> None:
    policy = "allow if user({name}), right($what, $how), application($what), operation($how)"
    arguments = ("verify", "token", *READ, "--policy", policy, "--param", "name=ann")
    assert issuer.cap(*arguments, "--fact", 'user("ann")').exit == 0
    assert issuer.cap(*arguments, "--fact", 'user("bob")').exit == 1
    assert issuer.cap(*arguments).exit == 1
    assert issuer.cap("verify", "token", *READ, "--policy", "allow if true", "--param", "x=1").exit == 2


def test_an_appended_fact_does_not_grant(issuer: Shell) -> None:
    grown = issuer.ok(
        "attenuate", "token", "--block", 'right("all", "all"); application("orders"); operation("read");'
    )
    policy = 'allow if right("all", "all")'
    assert issuer.cap("verify", *READ, "--policy", policy, stdin=grown).exit == 1
    assert issuer.cap("verify", stdin=grown).exit == 1


def test_query(issuer: Shell) -> None:
    rule = 'may($how) <- right("orders", $how)'
    assert issuer.ok("query", rule, "token") == 'may("read");'
    document = issuer.cap("query", rule, "token", "--json").json
    assert document == {"facts": [{"name": "may", "terms": ["read"], "source": 'may("read")'}]}
    assert issuer.ok("query", "x($y) <- none($y)", "token") == ""
    assert issuer.ok(
        "query", "x($a, $b) <- operation($a), extra($b)", "token", "-o", "read", "--fact", "extra(1)"
    ) == ('x("read", 1);')
    assert (
        issuer.ok("query", "x({v}) <- operation($a)", "token", "-o", "a", "--param", "v:integer=3") == "x(3);"
    )


def test_query_believes_only_the_issuer_unless_asked(issuer: Shell) -> None:
    grown = issuer.ok("attenuate", "token", "--block", 'right("all", "all");')
    rule = "x($y) <- right($y, $z)"
    assert issuer.ok("query", rule, stdin=grown) == 'x("orders");'
    assert issuer.ok("query", rule, "--all", stdin=grown).splitlines() == ['x("all");', 'x("orders");']


def test_query_writes_every_type_as_json(issuer: Shell) -> None:
    token = issuer.ok(
        "mint", 'v(1, "a", 2026-01-02T03:04:05Z, hex:00ff, true, null, {2, 1}, [1, hex:aa], {"k": {1}});'
    )
    rule = "v($a, $b, $c, $d, $e, $f, $g, $h, $i) <- v($a, $b, $c, $d, $e, $f, $g, $h, $i)"
    (fact,) = issuer.cap("query", rule, "--json", stdin=token).json["facts"]
    assert fact["terms"] == [
        1,
        "a",
        "2026-01-02T03:04:05Z",
        "00ff",
        True,
        None,
        [1, 2],
        [1, "aa"],
        {"k": [1]},
    ]


def test_seal_and_third_party_as_json(issuer: Shell) -> None:
    assert issuer.cap("seal", "token", "--json").json["sealed"] is True
    request = issuer.cap("third-party", "request", "token", "--json").json["request"]
    block = issuer.cap("third-party", "sign", "-", "--block", "a(1);", "--json", stdin=request).json["block"]
    issuer.write("block", block)
    whole = issuer.cap(
        "third-party", "append", "token", "--block", "block", "--external-key", "root.key.pub", "--json"
    )
    assert whole.json["blocks"] == 2


def test_third_party_messages_as_bytes(issuer: Shell) -> None:
    raw = issuer.cap("mint", "a(1);", "--raw").stdout
    issuer.write("raw", raw)
    request = issuer.cap("third-party", "request", "raw", "--raw").stdout
    block = issuer.cap("third-party", "sign", "-", "--raw", "--block", "b(2);", stdin=request).stdout
    issuer.write("block", block)
    whole = issuer.cap(
        "third-party", "append", "raw", "--raw", "--block", "block", "--external-key", "root.key.pub"
    )
    assert whole.exit == 0, whole.stderr
    assert "b(2);" in issuer.ok("inspect", "--raw", stdin=whole.stdout)


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion(shell: Shell, shell_name: str) -> None:
    run = shell.process("completion", shell_name)
    assert run.exit == 0
    assert "_CAP_COMPLETE" in run.text
    env = {"_CAP_COMPLETE": "bash_complete", "COMP_WORDS": "cap at", "COMP_CWORD": "1"}
    assert "attenuate" in shell.process(env=env).text


def test_every_command_has_an_example_and_json(shell: Shell) -> None:
    context = cap.make_context("cap", ["verify"])
    groups = {name: cap.get_command(context, name) for name in cap.list_commands(context)}
    commands = [
        (name, *below)
        for name, group in groups.items()
        for below in ([(each,) for each in group.lazy] if isinstance(group, LazyGroup) else [()])
    ]
    for words in commands:
        text = shell.ok(*words, "--help")
        assert "\nExamples:\n  cap " in text, words
        assert f"\n  cap {' '.join(words)}" in text
        assert "--json" in text


def test_help_names_every_command(shell: Shell) -> None:
    text = shell.ok("--help")
    for name in (
        "keygen",
        "mint",
        "attenuate",
        "seal",
        "inspect",
        "verify",
        "query",
        "revoke",
        "revoked",
        "third-party",
    ):
        assert re.search(rf"^  {name} ", text, re.MULTILINE)
    assert shell.ok("--version").startswith("cap, ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90d", timedelta(days=90)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1w2d3h4m5s", timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5)),
        ("2026-12-01T00:00:00Z", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01t01:00:00+01:00", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01 00:00:00z", datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_moments(text: str, expected: timedelta | datetime) -> None:
    assert parse_moment(text, "--expires") == expected


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(days=90) - timedelta(seconds=1), "in 90 days"),
        (timedelta(hours=36), "in 36 hours"),
        (timedelta(minutes=90), "in 90 minutes"),
        (timedelta(minutes=1), "in 60 seconds"),
        (timedelta(seconds=1), "in 1 second"),
        (timedelta(microseconds=-900_000), "now"),
        (timedelta(seconds=-1), "1 second ago"),
        (timedelta(days=-3), "3 days ago"),
    ],
)
def test_words(distance: timedelta, words: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert in_words(now + distance, now) == words


# What a command pays for

HEAVY = {"lark", "sqlite_utils", "sqlite3", "cryptography", "rich", "re2", "platformdirs", "tomllib"}
UNUSED = {
    f"capability.{name}" for name in ("datalog.engine", "datalog.plans", "datalog.skeletons", "wire.stencils")
}

ASKED = ("-a", "orders", "-o", "read")


def imported(shell: Shell, *arguments: str) -> set[str]:
    program = (
        "import sys\n"
        "from capability.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "assert code == 0, code\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=shell.folder,
        env=shell.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ("attenuate", "token", "--application", "orders", "--operation", "read", "--expires", "1h"),
        ("seal", "token"),
        ("--help",),
        ("attenuate", "--help"),
    ],
)
def test_a_holder_waits_for_nothing_heavy(issuer: Shell, arguments: tuple[str, ...]) -> None:
    # narrowed twice, for the statements of a token resemble one another
    issuer.write("token", issuer.ok("attenuate", "token", "--expires", "1d"))
    assert imported(issuer, *arguments) & (HEAVY | UNUSED) == set()


def test_a_plain_call_does_without_click(issuer: Shell) -> None:
    issuer.env["XDG_DATA_HOME"] = str(issuer.folder / "empty")  # the database's library loads click
    for plain in (("attenuate", "token", "--expires", "1h"), ("seal", "token"), ("verify", "token", *ASKED)):
        assert not imported(issuer, *plain) & {"click", "difflib"}, plain
    assert "click" in imported(issuer, "attenuate", "token", "--expires=1h")


def test_a_single_decision_loads_nothing_that_prepares_for_more(issuer: Shell) -> None:
    issuer.env["XDG_DATA_HOME"] = str(issuer.folder / "empty")
    preparing = {f"capability.datalog.{name}" for name in ("residual", "codegen", "families", "skeletons")}
    assert not imported(issuer, "verify", "token", *ASKED) & preparing


def test_each_command_pays_for_what_it_uses(issuer: Shell) -> None:
    assert {"lark"} == imported(issuer, "attenuate", "token", "--block", "check if a(1)") & HEAVY
    assert not imported(issuer, "inspect", "token") & {"lark", "sqlite_utils", "cryptography", "rich", "re2"}
    assert "sqlite_utils" in imported(issuer, "revoke", "token")


# What errors may quote


def test_redaction() -> None:
    token = "EsIBCpcB" + "aB3_-" * 40 + "=="
    standard = ("aB3+" * 12 + "/") * 4
    assert redact(f"unexpected {token}!") == "unexpected EsIBCpcB...!"
    assert standard[20:60] not in redact(standard)
    assert redact(ROOT.text()) == "ed25519-private/..."
    for harmless in (repr(ROOT.public_key), "ab" * 64, "/home/someone/" + "folder/" * 20 + "token"):
        assert redact(harmless) == harmless


def test_what_is_odd_about_a_policy_is_a_warning(issuer: Shell) -> None:
    token = issuer.ok("mint", "a(1);")
    run = issuer.cap("verify", "-o", "read", "--policy", "allow if operatoin($o); allow if true", stdin=token)
    assert run.exit == 0
    warning = "warning: operatoin($o) looks like operation(...) misspelt: allow if operatoin($o)\n"
    assert run.stderr == warning
    run = issuer.cap("verify", "--policy", "allow if false", stdin=token)
    assert run.exit == 4
    assert run.stderr.startswith("error: nothing could ever be allowed by this policy")
