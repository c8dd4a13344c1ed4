"""What a sidecar has done, as Prometheus reads it; summed over all workers, whichever one is asked."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from capability.sidecar.tally import BOUNDS, Board

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


def exposition(board: Board) -> bytes:
    """Returns all metrics in the text format."""
    registry = CollectorRegistry()
    registry.register(_Collected(board))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics. Every label has few values, and none of them comes from a request."""
        decisions = CounterMetricFamily("cap_decisions", "Answers of the check.", labels=["result", "reason"])
        for reason, count in self._board.decisions().items():
            decisions.add_metric(["allow" if reason == "allowed" else "deny", reason], count)
        yield decisions
        yield self._durations()
        events, gauges = self._board.events(), self._board.gauges()
        for name, event, text in _COUNTERS:
            yield CounterMetricFamily(name, text, value=events[event])
        failures = CounterMetricFamily(
            "cap_revocation_refresh_failures", "Times that a source did not answer.", labels=["cause"]
        )
        for cause in ("store", "signed", "keys", "state"):
            failures.add_metric([cause], events[f"refresh_failures_{cause}"])
        yield failures
        yield GaugeMetricFamily("cap_ready", "1 when every worker is ready.", value=gauges["ready"])
        yield GaugeMetricFamily(
            "cap_revocation_entries", "Revocation ids held.", value=gauges["revocation_entries"]
        )
        yield GaugeMetricFamily(
            "cap_revocation_revision", "Revision of the revocations.", value=gauges["revocation_revision"]
        )
        yield GaugeMetricFamily(
            "cap_revocation_last_success_timestamp_seconds",
            "When the worker that is furthest behind last heard from the store.",
            value=gauges["revocation_success_ms"] / 1000,
        )
        info = GaugeMetricFamily("cap_policy_info", "The policies that decide.", labels=["revision"])
        for revision in sorted(self._board.said("policies")):
            info.add_metric([f"{revision:016x}"], 1)
        yield info
        build = GaugeMetricFamily("cap_build_info", "This program.", labels=["version"])
        build.add_metric([_version()], 1)
        yield build

    def _durations(self) -> Metric:
        counts, total = self._board.durations()
        buckets, below = [], 0
        for bound, count in zip((*BOUNDS, float("inf")), counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), below))
        return HistogramMetricFamily(
            "cap_decision_duration_seconds",
            "From a request's last byte to its answer.",
            buckets=buckets,
            sum_value=total,
        )


_COUNTERS: Final = (
    ("cap_verify_cache_hits", "cache_hits", "Tokens that were known."),
    ("cap_verify_cache_misses", "cache_misses", "Tokens that had to be verified."),
    ("cap_decision_log_dropped", "log_dropped", "Decisions that the log could not take."),
    ("cap_spans_dropped", "spans_dropped", "Spans that no exporter took."),
    ("cap_connections_refused", "connections_refused", "Connections beyond the bound."),
    ("cap_connections_late", "connections_late", "Connections that took too long."),
    ("cap_reloads", "reloads", "Reloads that were taken."),
    ("cap_reloads_failed", "reloads_failed", "Reloads that were refused: the old state goes on."),
)


@cache
def _version() -> str:
    try:
        return version("capability-tokens")
    except PackageNotFoundError:
        return "unknown"
