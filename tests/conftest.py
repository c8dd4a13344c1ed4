"""How properties are tested: the same examples on every run, however busy the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "project",
    deadline=None,  # a slow machine is no failure
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")
