"""Prometheus metrics of one worker. Each series carries the worker's number, so whichever worker answers a scrape adds its own."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of requests by route template, never by path: a path is a client's text."""

    def __init__(self, worker: int) -> None:
        self.worker = str(worker)
        self.registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "matrix_sync_requests", "Requests answered", ("worker", "method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "matrix_sync_request_seconds",
            "Time from request to answer",
            ("worker", "route"),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._series = cache(self._find_series)  # as many as there are routes and statuses
        self._pool = Gauge(
            "matrix_sync_mysql_connections",
            "Connections lent out, and callers waiting for one",
            ("worker", "pool", "state"),
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        counter, histogram = self._series(method, route, status)
        counter.inc()
        histogram.observe(seconds)

    def _find_series(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(self.worker, method, route, str(status)), self._seconds.labels(self.worker, route)

    def set_pool(self, pool: str, *, in_use: int, waiting: int) -> None:
        """Note how busy a connection pool is."""
        self._pool.labels(self.worker, pool, "in_use").set(in_use)
        self._pool.labels(self.worker, pool, "waiting").set(waiting)

    def render(self) -> bytes:
        """Return the exposition text, version 0.0.4."""
        return generate_latest(self.registry)
