"""Each proxy, run for real with its file of deploy/: what clients see, and what reaches the service."""

import fcntl
from pathlib import Path

import pytest

from tests.proxies.proxies import PROXIES, Proxy, find
from tests.proxies.run import LETTERS, Run, run
from tests.proxies.scenarios import FORGED, SCENARIOS, Scenario
from tests.proxies.table import column, written_column

RUNS: dict[str, Run] = {}


@pytest.fixture(params=PROXIES.values(), ids=list(PROXIES))
def proxy(request: pytest.FixtureRequest) -> Proxy:
    """One proxy after the other."""
    each: Proxy = request.param
    find(each)
    return each


@pytest.fixture
def ran(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Run:
    """What came of all scenarios behind the proxy, which is started once, by whichever worker needs it."""
    if proxy.name not in RUNS:
        shared = tmp_path_factory.getbasetemp().parent / f"proxies-{testrun_uid}"
        shared.mkdir(exist_ok=True)
        RUNS[proxy.name] = _shared_run(proxy, shared / f"{proxy.name}.json")
    return RUNS[proxy.name]


def _shared_run(proxy: Proxy, kept: Path) -> Run:
    with kept.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        if text:
            return Run.from_json(text)
        found = run(proxy)
        file.write(found.to_json())
    return found


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_the_client_and_the_service_see(proxy: Proxy, ran: Run, scenario: Scenario) -> None:
    seen = ran.seen[scenario.name]
    assert seen.status == scenario.but.get(proxy.name, scenario.expected)
    if seen.status not in (200, 101):
        assert seen.reached == ()
        if seen.status in (401, 403):
            assert seen.challenge is not None
            assert seen.challenge.startswith('Bearer realm="cap"')
            assert seen.reason is not None
        return
    assert len(seen.reached) == 1
    request = seen.reached[0]
    assert request.body == scenario.body
    said = {letter: request.values(name) for letter, name in LETTERS.items()}
    assert all(len(values) <= 1 for values in said.values()), said
    assert seen.letters == scenario.known
    decision = ran.decisions[said["D"][0]]
    assert decision["outcome"] == "allowed"
    # what the service serves is what was decided about
    target = request.target.removeprefix("http://api.example.com")
    assert (decision["method"], decision["path"]) == (request.method, target.partition("?")[0])
    assert (decision["host"], decision["client"]) == ("api.example.com", "127.0.0.1")
    assert said["S"] == [decision["subject"]] if "S" in scenario.known else said["S"] in ([], [""])
    assert said["T"] == ["acme"]
    assert said["R"] == decision["revocation_ids"][:1]
    assert said["P"] == ["blue"] if "P" in scenario.known else said["P"] in ([], [""])
    assert [name for name, value in request.headers if FORGED in value] == []


def test_no_log_holds_a_token(ran: Run) -> None:
    assert ran.decisions
    assert ran.leaked == []


def test_the_table_is_what_this_run_saw(proxy: Proxy, ran: Run) -> None:
    assert written_column(proxy.title) == column(ran), "run: make proxies"
