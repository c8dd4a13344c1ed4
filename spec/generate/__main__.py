"""Writes every vector: `python -m spec.generate`."""

from spec.generate.files import DIRECTORY, TOPICS, contents

for topic in TOPICS:
    (DIRECTORY / f"{topic}.json").write_text(contents(topic), encoding="utf-8")
