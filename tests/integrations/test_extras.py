"""What is said when a framework is not installed."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("starlette", "starlette", "starlette"),
        ("fastapi", "fastapi", "fastapi"),
        ("fastapi", "starlette", "fastapi"),
        ("flask", "flask", "flask"),
        ("litestar", "litestar", "litestar"),
        ("django", "django", "django"),
        ("drf", "rest_framework", "drf"),
        ("drf", "django", "drf"),
        ("grpc", "grpc", "grpc"),
        ("celery", "celery", "celery"),
        ("mcp", "fastmcp", "mcp"),
    ],
)
def test_a_missing_framework_names_its_extra(module: str, missing: str, extra: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import capability.integrations.{module}"
    failed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert f"pip install 'capability-tokens[{extra}]'" in last
    assert last.count("capability-tokens[") == 1


def test_every_integration_is_an_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["optional-dependencies"]) >= {
        *("asgi", "starlette", "fastapi", "litestar", "flask", "django", "drf", "grpc", "celery", "mcp"),
        *("httpx", "requests", "pytest"),
    }
