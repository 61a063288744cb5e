"""Counters and times for Prometheus, summed over all processes of the service.

`PROMETHEUS_MULTIPROC_DIR` must be set before this module is imported: `prepare` does it.
Routes are counted by their template, never by the path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Metrics", "metrics", "prepare", "process_ended", "remove"]

_MEMORY = Path("/dev/shm")  # noqa: S108  # looked at before it is used

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def prepare(folder: Path) -> None:
    """Count from now on in memory, if this system has such a folder, else in `folder`.

    The counters are mapped files: where the disk is full, the first write to a page that has no place on it ends the
    process (SIGBUS). They begin empty: files of processes that ended would count for ever.
    """
    chosen = _in_memory(folder) or folder
    chosen.mkdir(parents=True, exist_ok=True)
    for path in chosen.glob("*.db"):
        path.unlink(missing_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(chosen)


def _in_memory(folder: Path) -> Path | None:
    """A folder of this user's own for this service in memory; None where there can be none."""
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    path = _MEMORY / f"rankline-{os.getuid()}-{name}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    # Everybody may make folders there: one that another user made is none to write to.
    return path if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() else None


def remove() -> None:
    """Remove the counters in memory: the service has ended."""
    path = Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""))
    if path.parent == _MEMORY:
        shutil.rmtree(path, ignore_errors=True)


def process_ended(pid: int) -> None:
    """A process has ended: its gauges count no more, its counters do."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of this process."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        # A registry of its own: two of one name in the default one are refused.
        own = CollectorRegistry()
        self._requests = Counter("rankline_requests", "Requests.", ["method", "route", "status"], registry=own)
        self._seconds = Histogram(
            "rankline_request_duration_seconds", "Time of a request.", ["route"], buckets=_BUCKETS, registry=own
        )
        hits = Counter("rankline_cache_hits", "Answers from a cache.", ["tier"], registry=own)
        self.process_hit, self.redis_hit = hits.labels("process"), hits.labels("redis")
        self.miss = Counter("rankline_cache_misses", "Answers that were made anew.", registry=own)
        self._fallbacks = Counter("rankline_fallback", "Lists that no model's row made.", ["source"], registry=own)
        self.interactions = Counter("rankline_interactions", "Interactions that were stored.", registry=own)
        exposures = Counter("rankline_exposures", "Lists that were shown in experiments.", ["outcome"], registry=own)
        self._written, self._lost = exposures.labels("written"), exposures.labels("lost")
        self._swaps = Counter("rankline_swap", "Changes of the served model.", ["outcome"], registry=own)
        self.active_models = Gauge(
            "rankline_active_models", "Models in a worker's memory.", registry=own, multiprocess_mode="livemax"
        )
        self._loaded: dict[str, int] = {}
        self.request = cache(self._requests.labels)
        self.seconds = cache(self._seconds.labels)
        self.fallback = cache(self._fallbacks.labels)
        self.swap = cache(self._swaps.labels)

    def exposed(self, written: int, lost: int) -> None:
        """So many exposures were written, and so many lost."""
        self._written.inc(written)
        self._lost.inc(lost)

    def loaded(self, name: str) -> Callable[[int], None]:
        """Is to be told how many versions of a model are in memory."""

        def say(n: int) -> None:
            self._loaded[name] = n
            self.active_models.set(sum(self._loaded.values()))

        return say


@cache
def metrics() -> Metrics:
    """The metrics of this process."""
    return Metrics()


def _of_source(family: Metric, source: str) -> float:
    return sum(sample.value for sample in family.samples if sample.labels.get("source") == source)


def exposition(
    extra: Mapping[str, tuple[str, float]],
    infos: Sequence[Mapping[str, str]],
    labelled: Mapping[str, tuple[str, Mapping[str, float]]] | None = None,
) -> bytes:
    """All processes' metrics as Prometheus text.

    Parameters
    ----------
    extra : name → help and value of gauges that are read at the scrape
    infos : labels of ``rankline_model_info``, of each model
    labelled : name → help, and value by the label `statistic`
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import Collector

    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")

    class All(Collector):
        def collect(self) -> Iterator[Metric]:
            families: list[Metric] = []
            if folder:
                families += MultiProcessCollector(CollectorRegistry(), folder).collect()  # type: ignore[no-untyped-call]
            yield from families
            counts = {sample.name: 0.0 for family in families for sample in family.samples}
            for family in families:
                for sample in family.samples:
                    counts[sample.name] += sample.value
            hits, misses = (counts.get(f"rankline_cache_{name}_total", 0.0) for name in ("hits", "misses"))
            rate = hits / (hits + misses) if hits + misses else 0.0
            yield GaugeMetricFamily("rankline_cache_hit_rate", "Share of answers from a cache.", rate)
            if hits + misses:
                popular = sum(_of_source(family, "popular") for family in families)
                known = 1 - popular / (hits + misses)
                yield GaugeMetricFamily("rankline_user_coverage", "Share of lists for users who are known.", known)
            for name, (text, value) in extra.items():
                yield GaugeMetricFamily(name, text, value)
            for name, (text, values) in (labelled or {}).items():
                gauge = GaugeMetricFamily(name, text, labels=["statistic"])
                for statistic, value in values.items():
                    gauge.add_metric([statistic], value)
                yield gauge
            if infos:
                family = GaugeMetricFamily("rankline_model_info", "The served model.", labels=list(infos[0]))
                for info in infos:
                    family.add_metric(list(info.values()), 1.0)
                yield family

    registry = CollectorRegistry()
    registry.register(All())
    return generate_latest(registry)
