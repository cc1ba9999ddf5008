# SPDX-License-Identifier: Apache-2.0
"""The agent's own numbers for Prometheus, and whether it is alive and ready, over HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app
from prometheus_client.registry import Collector

from nodeagent.errors import StartError

__all__ = ["MetricsServer"]

log: Final = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 5.0
"""A loop that does not answer for so long is not alive."""
KERNEL_STATES: Final = ("seen", "sent", "filtered", "aggregated", "throttled", "decoded", "bad")
SINK_STATES: Final = ("routed", "delivered")
SINK_HOLDS: Final = ("queued", "spooled")

Status = Callable[[], Mapping[str, Any]]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class MetricsServer:
    """Serves /metrics, /healthz and /readyz in a thread of its own."""

    def __init__(self, listen: str, status: Status, coverage: Mapping[str, str | None]) -> None:
        """Open `listen`, host:port; raises StartError.

        `status` is called in the running loop; `coverage` has the family of hooks by kind.
        """
        self._loop = asyncio.get_running_loop()
        self._status = status
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Numbers(self._ask, coverage))
        self._metrics = make_wsgi_app(registry)
        name, _, port = listen.rpartition(":")
        host = name.strip("[]")
        server = _ServerOfIpv6 if ":" in host else ThreadingWSGIServer
        try:
            self._server = make_server(host, int(port), self._serve, server, _Quiet)
        except (OSError, ValueError, OverflowError) as error:
            raise StartError(f"metrics.listen = {listen!r} cannot be opened: {error}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The one that it listens on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Hang up."""
        # Whoever asks just now waits for the loop, which waits for the server.
        threading.Thread(target=self._server.shutdown, daemon=True).start()
        self._server.server_close()

    def _ask(self) -> Mapping[str, Any]:
        """The status, from another thread; raises TimeoutError when the loop is stuck."""

        async def ask() -> Mapping[str, Any]:
            return self._status()

        asked = asyncio.run_coroutine_threadsafe(ask(), self._loop)
        try:
            return asked.result(ANSWER_SECONDS)
        except CancelledError as error:
            raise TimeoutError from error

    def _serve(self, environment: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        path = environment.get("PATH_INFO", "")
        try:
            if path == "/metrics":
                scraped: Iterable[bytes] = self._metrics(environment, start)
                return scraped
            if path in {"/healthz", "/readyz"}:
                dead = self._ask()["ledger"]["dead"]
                if dead and path == "/readyz":
                    text = f"hooks see nothing: {', '.join(dead)}\n"
                    return _say(start, "503 Service Unavailable", text)
                return _say(start, "200 OK", "ok\n")
        except (TimeoutError, RuntimeError):
            return _say(start, "503 Service Unavailable", "the agent does not answer\n")
        return _say(start, "404 Not Found", "there are /metrics, /healthz and /readyz\n")


class _ServerOfIpv6(ThreadingWSGIServer):
    """On [::] it serves IPv4, too, as the system does by default."""

    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    """Requests are no news; one that stays silent is hung up on."""

    timeout = ANSWER_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name
        log.debug("metrics_request what=%s", format % args)


class _Numbers(Collector):
    """Makes metrics of a status when somebody scrapes."""

    def __init__(self, ask: Status, coverage: Mapping[str, str | None]) -> None:
        self._ask = ask
        self._coverage = coverage

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        status = self._ask()
        ledger, usage = status["ledger"], status["usage"]
        yield from _kernel(ledger["kinds"])
        yield from _sinks(ledger["sinks"])
        for name, text, label, values in (
            ("stage_cpu_seconds", "CPU time of a stage of the pipeline", "stage", "cpu_seconds"),
            ("misses", "What an enricher was asked and did not know", "enricher", "misses"),
            ("suppressed", "Findings that a suppression left out", "reason", "suppressed"),
            ("failures", "How often an enricher or detector failed", "part", "failures"),
        ):
            metric = CounterMetricFamily(f"nodeagent_{name}", text, labels=[label])
            for each, value in ledger[values].items():
                metric.add_metric([each], value)
            yield metric
        hooks = GaugeMetricFamily(
            "nodeagent_kind_covered",
            "1 where hooks of this family serve a kind, 0 where none does",
            labels=["kind", "family"],
        )
        alive = GaugeMetricFamily(
            "nodeagent_kind_alive",
            "0 where the hooks of a kind do not see what is done to try them",
            labels=["kind"],
        )
        for kind, family in self._coverage.items():
            hooks.add_metric([kind, family or "none"], 1 if family else 0)
            alive.add_metric([kind], int(bool(family) and kind not in ledger["dead"]))
        yield from (hooks, alive)
        yield CounterMetricFamily(
            "nodeagent_cpu_seconds", "CPU time of the agent", usage["cpu_seconds"]
        )
        yield GaugeMetricFamily(
            "nodeagent_resident_bytes", "Resident memory of the agent", usage["rss_bytes"]
        )
        yield GaugeMetricFamily(
            "nodeagent_level", "How much is shed to stay within the budget, 0 to 3", ledger["level"]
        )
        build = GaugeMetricFamily("nodeagent_build_info", "Its version", labels=["version"])
        build.add_metric([status["version"]], 1)
        yield build


def _kernel(kinds: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "nodeagent_events", "What became of operations, by kind", labels=["kind", "state"]
    )
    lost = CounterMetricFamily(
        "nodeagent_events_lost", "Records that reached no ring", labels=["kind", "reason"]
    )
    missed = CounterMetricFamily(
        "nodeagent_runs_missed", "Runs of eBPF programs that the kernel left out", labels=["kind"]
    )
    for kind, counts in kinds.items():
        missed.add_metric([kind], counts["missed"])
        for state in KERNEL_STATES:
            events.add_metric([kind, state], counts[state])
        for reason, value in counts["lost"].items():
            lost.add_metric([kind, reason], value)
    yield from (events, lost, missed)


def _sinks(sinks: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    items = CounterMetricFamily(
        "nodeagent_sink_items", "What was given to a sink and taken", labels=["sink", "state"]
    )
    dropped = CounterMetricFamily(
        "nodeagent_sink_dropped", "What a sink never got", labels=["sink", "reason"]
    )
    held = GaugeMetricFamily(
        "nodeagent_sink_held", "What waits for a sink", labels=["sink", "where"]
    )
    for sink, counts in sinks.items():
        for state in SINK_STATES:
            items.add_metric([sink, state], counts[state])
        for reason, value in counts["dropped"].items():
            dropped.add_metric([sink, reason], value)
        for where in SINK_HOLDS:
            held.add_metric([sink, where], counts[where])
    yield from (items, dropped, held)


def _say(start: StartResponse, status: str, text: str) -> list[bytes]:
    body = text.encode()
    head = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start(status, head)
    return [body]
