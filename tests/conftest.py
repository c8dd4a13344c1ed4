"""Servers for all tests; and how properties are tested: the same examples on every run, on any machine."""

from hypothesis import HealthCheck, settings

from tests.servers import database, postgres, redis_server, redis_url

__all__ = ["database", "postgres", "redis_server", "redis_url"]  # fixtures

settings.register_profile(
    "project",
    deadline=None,  # a slow machine is no failure
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")
