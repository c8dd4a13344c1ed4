"""Tokens that are equal but for constants, or nearly, and one guard that sees them one after the other.

A guard decides about a token by what it learned from others like it. So the constants of each are drawn from
those of the others and of the policy, where a wrong likeness would show: joins that hold in one and not in
the next, facts that collapse, dates at the edge, sizes at a bound, other signers under the same statements.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias

from capability.datalog.terms import DATE_MAX
from tests.differential.cases import EXTERNAL_KEYS, PUBLIC_KEYS

NOW: Final = 1_900_000_000
_STRINGS: Final = ("a", "b", "read", "write", "/r", "/r/x", "", "é", "user", "x" * 33, "x" * 70)
_DATES: Final = (NOW, NOW - 1, NOW + 1, NOW + 10**8, 0, 1, 2**28 - 1, 2**28, 2**35, DATE_MAX)
_HOLE: Final = re.compile(r"\{([sdiS])\}")
_VARIABLES: Final = ("$x", "$y", "$z")
_COLUMNS: Final[dict[str, str]] = {
    "user": "s",
    "role": "s",
    "right": "ss",
    "owner": "ss",
    "operation": "s",
    "resource": "s",
    "time": "d",
    "n": "i",
    "seen": "sdi",
    "set": "S",
    "may": "s",
    "tag": "ss",
}
"""Predicates, and the kinds of their terms: string, date, integer, set of strings."""
_STATED: Final = ("user", "user", "role", "role", "right", "owner", "n", "seen", "set", "operation", "tag")
_CHECKS: Final = (
    "check if operation({s})",
    "check all operation($o), {S}.contains($o)",
    "check all time($t), $t <= {d}",
    "check all time($t), $t <= {d}",
    "check if time($t), $t < {d}",
    "check if time($t), {d} > $t",
    "check if time($t), $t < {d} or operation({s})",
    "check if time($t), $t < {d} or time($t), $t >= {d}",
    "check all time($t), $t > {d}, $t <= {d}",
    "check if time({d})",
    "reject if time($t), $t > {d}",
    "check all resource($r), $r == {s} || $r.starts_with({s})",
    "check if user($u), operation($u)",
    "check if user({s})",
    "check if user($u), $u == {s}",
    "check if user($u), $u == {s}, time($t), $t <= {d}",
    "reject if operation({s})",
    "reject if right($x, $x), operation($o)",
    "check if right($x, $x)",
    "check if right($x, {s}), operation($x)",
    "check if n($n), $n + {i} > {i}",
    "check if n($n), operation($o), $n * {i} < {i}",
    "check if operation($o), [{s}, {s}].contains($o)",
    "check if set($s), operation($o), $s.contains($o)",
    "check if operation($o), {S}.contains({s})",
    "check if operation($o), {S} == {S}",
    "check if resource($r), $r.matches({s})",
    "check if resource($r), $r.length() > {i}",
    "check if may($o), operation($o)",
    "check if seen($u, $d, $n), time($t), $t < $d",
    "check if operation($o), {i} == {i}",
    "check if operation($o), {s} == $o, {s} != $o",
)
_RULES: Final = (
    "may($o) <- role($r), right($r, $o)",
    "may($u) <- user($u)",
    "may({s}) <- user($u)",
    "may($o) <- operation($o), right($r, $o), role($r)",
    "may($r) <- resource($r), owner($u, $r), user($u)",
    "right($x, $z) <- right($x, $y), right($y, $z)",
    "tag($x, {s}) <- operation($x), $x != {s}",
    "user($x) <- tag($x, $y)",
)


Request: TypeAlias = tuple[str, str, tuple[str, ...]]
"""The operation, the resource, and tags."""


@dataclass(frozen=True)
class Frame:
    """A block without its constants, and which of EXTERNAL_KEYS signs it, if any."""

    statements: tuple[str, ...]
    signer: int | None = None


@dataclass(frozen=True)
class Step:
    """A token, by its frames and the constants put in, and what is asked of it, in turn."""

    frames: tuple[Frame, ...]
    constants: tuple[tuple[str, ...], ...]
    requests: tuple[Request, ...]

    @property
    def sources(self) -> list[str]:
        """The source of each block."""
        left = iter(self.constants)
        return [
            "".join(f"{statement.format(*next(left))};\n" for statement in frame.statements)
            for frame in self.frames
        ]


@dataclass(frozen=True)
class Relatives:
    """What one guard is asked, in order."""

    seed: int
    policy: str
    answers: tuple[str, ...]
    steps: tuple[Step, ...]

    def describe(self) -> str:
        """Returns everything that is needed to see it again."""
        lines = [f"seed {self.seed}", f"-- policy\n{self.policy}", f"-- answers {self.answers}"]
        for step in self.steps:
            for source, frame in zip(step.sources, step.frames, strict=True):
                by = "" if frame.signer is None else f", signed by {PUBLIC_KEYS[frame.signer]}"
                lines.append(f"-- block{by}\n{source}".rstrip())
            lines.append(f"-- asked {step.requests}\n")
        return "\n".join(lines)

    def smaller(self) -> Iterator["Relatives"]:
        """Yields cases with one thing less."""
        for index, step in enumerate(self.steps):
            rest = (self.steps[:index], self.steps[index + 1 :])
            yield replace(self, steps=(*rest[0], *rest[1]))
            for at in range(len(step.requests)) if len(step.requests) > 1 else ():
                less = replace(step, requests=step.requests[:at] + step.requests[at + 1 :])
                yield replace(self, steps=(*rest[0], less, *rest[1]))
        for block, frame in enumerate(self.steps[0].frames if self.steps else ()):
            for at, statement in enumerate(frame.statements):
                yield replace(self, steps=tuple(_without(step, block, at, statement) for step in self.steps))
        statements = self.policy.split("\n")
        for index in range(len(statements) - 1):
            yield replace(self, policy="\n".join(statements[:index] + statements[index + 1 :]))


def _without(step: Step, block: int, at: int, statement: str) -> Step:
    if len(step.frames) <= block or step.frames[block].statements[at : at + 1] != (statement,):
        return step
    frame = step.frames[block]
    place = sum(len(other.statements) for other in step.frames[:block]) + at
    less = replace(frame, statements=frame.statements[:at] + frame.statements[at + 1 :])
    return replace(
        step,
        frames=(*step.frames[:block], less, *step.frames[block + 1 :]),
        constants=step.constants[:place] + step.constants[place + 1 :],
    )


class _Maker:
    """Writes statements whose constants are left out: a hole for each, by its kind."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def fact(self) -> str:
        name = self.rng.choice(_STATED)
        return f"{name}({', '.join('{' + kind + '}' for kind in _COLUMNS[name])})"

    def atom(self) -> str:
        name = self.rng.choice(tuple(_COLUMNS))
        terms = []
        for kind in _COLUMNS[name]:
            # one variable for each kind, so that joins are of one type
            free = self.rng.random() < 0.6
            of_kind = self.rng.choice(_VARIABLES) if kind == "s" else f"${kind}"
            terms.append(of_kind if free else "{" + kind + "}")
        return f"{name}({', '.join(terms)})"

    def body(self) -> str:
        atoms = [self.atom() for _ in range(self.rng.choice((1, 1, 2, 2, 3)))]
        strings = [name for name in _VARIABLES if any(name in atom for atom in atoms)]
        conditions = []
        if strings and self.rng.random() < 0.4:
            name = self.rng.choice(strings)
            conditions.append(
                self.rng.choice((f"{name} == {{s}}", f"{name} != {{s}}", f"{{S}}.contains({name})"))
            )
        if any("$d" in atom for atom in atoms):
            conditions.append(self.rng.choice(("$d <= {d}", "$d < {d}", "$d > {d}")))
        return ", ".join(atoms + conditions) + self.clause()

    def clause(self) -> str:
        if self.rng.random() >= 0.1:
            return ""
        return f" trusting {self.rng.choice(('previous', 'authority', *PUBLIC_KEYS))}"

    def rule(self) -> str:
        if self.rng.random() < 0.6:
            return self.rng.choice(_RULES) + self.clause()
        body = self.body()
        strings = [name for name in _VARIABLES if name in body]
        head = self.rng.choice(strings) if strings and self.rng.random() < 0.8 else "{s}"
        return f"{self.rng.choice(('may', 'user', 'role'))}({head}) <- {body}"

    def check(self) -> str:
        if self.rng.random() < 0.7:
            return self.rng.choice(_CHECKS)
        kind = self.rng.choice(("check if", "check if", "check all", "reject if"))
        bodies = [self.body() for _ in range(self.rng.choice((1, 1, 2)))]
        return f"{kind} {' or '.join(bodies)}"

    def frame(self, facts: Sequence[int], checks: Sequence[int]) -> tuple[str, ...]:
        rng = self.rng
        statements = [self.fact() for _ in range(rng.choice(facts))]
        if statements and rng.random() < 0.2:
            statements.append(rng.choice(statements))
        statements += [self.rule() for _ in range(rng.choice((0, 0, 0, 1)))]
        statements += [self.check() for _ in range(rng.choice(checks))]
        return tuple(statements)

    def constant(self, kind: str) -> str:
        rng = self.rng
        match kind:
            case "s":
                return f'"{rng.choice(_STRINGS)}"'
            case "d":
                return datetime.fromtimestamp(rng.choice(_DATES), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            case "i":
                return str(rng.choice((0, 1, 2, -1, 2**62, 2**63 - 1)))
        members = rng.sample(_STRINGS, rng.choice((1, 1, 2, 3)))
        return "{" + ", ".join(f'"{member}"' for member in members) + "}"


def _numbered(statement: str) -> tuple[str, tuple[str, ...]]:
    """Returns a statement with plain holes, and their kinds."""
    return _HOLE.sub("{}", statement), tuple(_HOLE.findall(statement))


def random_relatives(seed: int) -> Relatives:
    """Returns the case of a seed, the same one on every machine."""
    rng = random.Random(seed)
    maker = _Maker(rng)
    herds = [_herd(maker)]
    if rng.random() < 0.5:
        herds.append(_changed(rng, herds[0]))
    policy = [maker.fact() for _ in range(rng.choice((0, 1, 2, 2)))]
    policy += [maker.rule() for _ in range(rng.choice((0, 0, 1, 1)))]
    policy += [maker.check() for _ in range(rng.choice((0, 0, 0, 1)))]
    policy += [
        f"{kind} {maker.body()}"
        for kind in rng.choices(("allow if", "deny if"), (4, 1), k=rng.choice((0, 1, 2)))
    ]
    policy.append(rng.choice(("allow if true", "allow if operation($o)", "deny if true")))
    filled = [_filled(maker, statement) for statement in policy if not statement.startswith("time(")]
    answers: tuple[str, ...] = rng.choice(((), (), ("may($x)",), ("user($u)", 'tag($x, "a")')))
    steps: list[Step] = []
    for _ in range(rng.choice((4, 6, 8))):
        frames = herds[0] if rng.random() < 0.7 else rng.choice(herds)
        before = rng.choice(steps) if steps else None
        steps.append(_step(maker, frames, before))
    return Relatives(seed, "\n".join(f"{statement};" for statement in filled), answers, tuple(steps))


def _herd(maker: _Maker) -> tuple[Frame, ...]:
    rng = maker.rng
    frames = [Frame(maker.frame((1, 2, 2, 3), (0, 0, 1)))]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        signer = rng.randrange(len(EXTERNAL_KEYS)) if rng.random() < 0.2 else None
        frames.append(Frame(maker.frame((0, 0, 0, 1), (1, 1, 2)), signer))
    return tuple(frames)


def _changed(rng: random.Random, frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Returns frames that nearly are the same: for a family that takes too much for equal."""
    index = rng.randrange(len(frames))
    frame = frames[index]
    statements = list(frame.statements)
    at = rng.randrange(len(statements)) if statements else 0
    match rng.randrange(5):
        case 0 if index:
            frame = replace(frame, signer=None if frame.signer is not None else 0)
        case 1 if index and frame.signer is not None:
            frame = replace(frame, signer=(frame.signer + 1) % len(EXTERNAL_KEYS))
        case 2 if statements:
            statements.append(statements[at])
        case 3 if statements:
            statements[at] = statements[at].replace("check if", "check all").replace("$x", "$y")
        case 4 if index:
            other = frames[index - 1]
            return (
                *frames[: index - 1],
                replace(other, statements=frame.statements),
                replace(frame, statements=other.statements),
                *frames[index + 1 :],
            )
    return (*frames[:index], replace(frame, statements=tuple(statements)), *frames[index + 1 :])


def _filled(maker: _Maker, statement: str) -> str:
    plain, kinds = _numbered(statement)
    return plain.format(*map(maker.constant, kinds))


def _step(maker: _Maker, frames: tuple[Frame, ...], before: Step | None) -> Step:
    rng = maker.rng
    numbered = [_numbered(statement) for frame in frames for statement in frame.statements]
    old = before.constants if before is not None else ()
    constants = []
    for place, (_, kinds) in enumerate(numbered):
        same = old[place] if place < len(old) and len(old[place]) == len(kinds) else ()
        alike = bool(same) and before is not None and before.frames == _plain(frames)
        constants.append(
            tuple(
                same[at] if alike and rng.random() < 0.6 else maker.constant(kind)
                for at, kind in enumerate(kinds)
            )
        )
    requests = tuple(
        (
            rng.choice(("read", "write", "a", "b")),
            rng.choice(("/r", "/r/x", "a", "é")),
            tuple(rng.choice(_STRINGS[:4]) for _ in range(rng.choice((0, 0, 0, 1, 2)))),
        )
        for _ in range(rng.choice((1, 2, 3)))
    )
    return Step(_plain(frames), tuple(constants), requests)


def _plain(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    return tuple(
        replace(frame, statements=tuple(_numbered(statement)[0] for statement in frame.statements))
        for frame in frames
    )
