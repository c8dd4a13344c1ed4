"""All that a store holds, out of it and into an empty one."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from capability.errors import StoreDumpError, StoreNotEmpty
from capability.store.audit import STORE_WRITER, Entry, link
from capability.store.dump import Dump, Item, checked
from capability.store.events import loaded
from capability.store.moments import micros
from capability.store.records import Record, Revocation, Rule
from capability.store.redis.registry import PAGE, of_index
from capability.store.redis.rows import (
    act_text,
    index_names,
    record_of,
    record_text,
    rule_key,
    rule_of,
    rule_place,
)
from capability.store.redis.server import Server


def records_and_rules(server: Server, last: int, revision: int) -> Iterator[Item]:
    """Yields the records up to the serial `last`, and each rule up to `revision` behind what it means."""
    rows = server.ask("rules")[2]
    rules = sorted(
        ((rule_of(row), rule_place(row)) for row in rows), key=lambda each: each[0].revision, reverse=True
    )
    rules = [each for each in rules if each[0].revision <= revision]
    serials = islice(of_index(server, "", 0), last)
    while page := list(islice(serials, PAGE)):
        for serial, row in zip(page, server.ask("records", *page)[2], strict=True):
            while rules and rules[-1][1] < serial:
                yield rules.pop()[0]
            yield record_of(row)
    yield from (rule for rule, _ in reversed(rules))


class Loading:
    """Prepares a dump under a prefix of its own, which one script then puts in an empty store's place."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._prefix = f"{server.address.prefix}loading:{secrets.token_hex(8)}:"
        self._keys: set[str] = set()
        self._commands: list[tuple[Any, ...]] = []
        self._serial = 0
        self._waiting: list[tuple[Rule, str]] = []
        self._rules: dict[str, str] = {}
        self._act = ""
        self._last = (0, -1)

    def load(self, dump: Dump, actor: str | None) -> None:
        """Puts `dump` into the store of the server, all or nothing."""
        self._server.ask("check")
        try:
            for item in checked(dump):
                self._add(item)
                if len(self._commands) >= PAGE:
                    self._send()
            self._feed_rules(dump.revision)
            for writer, head in dump.heads.items():
                self._do("HSET", "heads", writer, f"{head.number} {head.hash.hex()}")
            self._send()
            end = dump.heads.get(STORE_WRITER)
            line = link(loaded(dump.revision, dump.count, actor), STORE_WRITER, end)
            answer = self._server.change(
                *("adopt", self._prefix, dump.revision, self._serial),
                *("" if end is None else f"{end.number} {end.hash.hex()}", line.text, line.hash.hex()),
            )
            if answer[0] == b"filled":
                raise StoreNotEmpty
        except BaseException:
            self._server.delete(self._keys)
            raise

    def _add(self, item: Item) -> None:
        if isinstance(item, Entry):
            place = f"{item.number}-0"
            self._do("XADD", f"audit:{item.writer}", place, "line", item.text, "hash", item.hash.hex())
        elif isinstance(item, Revocation):
            self._feed_rules(item.revision)
            place = self._place(item.revision, act_text(item.reason, item.actor, item.at))
            until = "" if item.expires is None else str(micros(item.expires))
            self._do("HSETNX", "revoked", item.id, f"{place} {until}".rstrip())
            self._do("XADD", "feed", place, "id", item.id)
            if until:
                self._do("ZADD", "expiring", until, item.id)
        elif isinstance(item, Rule):
            before = "-" if item.before is None else str(micros(item.before))
            self._waiting.append((item, f"{self._serial} {before}"))
        else:
            self._register(item)

    def _register(self, record: Record) -> None:
        self._serial += 1
        kept = replace(record, revoked=False, last_used=None)
        self._do("HSET", "records", self._serial, record_text(kept))
        self._do("HSETNX", "roots", record.root, self._serial)
        self._do("HSETNX", "ids", record.id, self._serial)
        if record.last_used is not None:
            self._do("HSET", "used", self._serial, micros(record.last_used))
        for index in index_names(record):
            score = micros(record.expires) if index == "expiry" and record.expires else self._serial
            self._do("ZADD", f"by:{index}", score, self._serial)
            self._do("HINCRBY", "sizes", index, 1)

    def _feed_rules(self, revision: int) -> None:
        """Puts the rules up to a revision into the feed, whose entries come in the order of revisions."""
        while self._waiting and self._waiting[0][0].revision <= revision:
            rule, meant = self._waiting.pop(0)
            who = rule_key(rule)
            place = self._place(rule.revision, act_text(rule.reason, rule.actor, rule.at))
            self._do("XADD", "feed", place, "rule", f"{meant} {who}")
            line = f"{meant} {rule.revision}"
            self._rules[who] = f"{self._rules[who]}\n{line}" if who in self._rules else line
            self._do("HSET", "rules", who, self._rules[who])

    def _place(self, revision: int, act: str) -> str:
        """Returns the next place in the feed of what `revision` brought, for the reason that `act` tells."""
        if revision < self._last[0]:
            raise StoreDumpError("the revocations are out of order")
        if revision == self._last[0]:
            if act != self._act:
                raise StoreDumpError("one revision has two reasons, actors or times")
            self._last = (revision, self._last[1] + 1)
        else:
            self._last, self._act = (revision, 0), act
            self._do("HSET", "acts", revision, act)
        return f"{revision}-{self._last[1]}"

    def _do(self, command: str, key: str, *arguments: Any) -> None:
        self._keys.add(self._prefix + key)
        self._commands.append((command, self._prefix + key, *arguments))

    def _send(self) -> None:
        replies = self._server.send(self._commands)
        for (command, *_), reply in zip(self._commands, replies, strict=True):
            if command == "HSETNX" and not reply:
                raise StoreDumpError("the dump holds the same thing twice")
        self._commands = []
