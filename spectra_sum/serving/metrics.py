"""What the server counts and measures, in a registry of its own, as Prometheus reads it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class Metrics:
    """
    The measurements of one app. Names begin with `spectra_sum_`; those of the process, its memory among them, with
    `process_`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests that were answered", "route", "status")
        self.request_seconds = self._histogram("request_seconds", "Seconds from arrival to the answer's end", "route")
        self.first_text_seconds = self._histogram("first_text_seconds", "Seconds to a stream's first text", "route")
        self.queue_seconds = self._histogram("queue_seconds", "Seconds that requests waited to be written")
        self.batch_seconds = self._histogram("batch_seconds", "Seconds that batches took")
        self.batch_size = self._histogram("batch_size", "Requests of batches", buckets=_SIZES)
        self.reading = self._gauge("reading", "Requests that are read")
        self.waiting = self._gauge("waiting", "Requests that wait to be written")
        self.running = self._gauge("running", "Requests that are written")
        self.stopped = self._counter("stopped", "Requests that were given up before their summary was there", "reason")
        self.tokens = self._counter("tokens", "Tokens of prompts that were read, and of summaries", "kind")

    def text(self) -> bytes:
        """All measurements in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"spectra_sum_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"spectra_sum_{name}", help_text, registry=self.registry)

    def _histogram(self, name: str, help_text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(f"spectra_sum_{name}", help_text, labels, buckets=buckets, registry=self.registry)
