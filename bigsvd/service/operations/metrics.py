"""What a server has counted, and how its queue and its disks stand, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bigsvd.service.operations.disk import free_bytes
from bigsvd.service.service import Service

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Measures:
    """What is counted, in the text format of Prometheus."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Standing(service))
        self._requests = Histogram(
            "bigsvd_request_seconds", "Until the last byte of an answer, by route.",
            ("method", "route", "status"), registry=self._registry, buckets=_BUCKETS,
        )  # fmt: skip
        self._chunks = Histogram(
            "bigsvd_chunk_seconds", "Until the last byte of a part of an array.",
            registry=self._registry, buckets=_BUCKETS,
        )  # fmt: skip

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(method, route, str(status)).observe(seconds)
        if "zarr" in route:
            self._chunks.observe(seconds)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)


class _Standing(Collector):
    """What is looked up when it is asked for: how the queue stands, and how much room there is."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges."""
        facts = self._service.index.facts()
        jobs = GaugeMetricFamily("bigsvd_jobs", "Jobs that are known, by state.", labels=["state"])
        for state, number in sorted(facts.states.items()):
            jobs.add_metric([state], number)
        yield jobs
        yield GaugeMetricFamily(
            "bigsvd_queue_oldest_seconds",
            "Since the first job in line was taken in.",
            facts.oldest_waiting_seconds,
        )
        yield GaugeMetricFamily(
            "bigsvd_lease_oldest_seconds",
            "Since the oldest lease of a server ran out.",
            facts.oldest_silent_seconds,
        )
        yield from self._rooms()

    def _rooms(self) -> Iterator[GaugeMetricFamily]:
        rooms = GaugeMetricFamily("bigsvd_free_bytes", "Left on the disk of a folder.", labels=["folder"])
        settings = self._service.settings
        for folder in (settings.state, *settings.roots):
            rooms.add_metric([str(folder)], free_bytes(folder))
        yield rooms
