"""The server's metrics in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

from trainer.serve.engine import Load

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

FAILURES = 3  # in a row: then the model is at fault, not the request


class Histogram:
    """Counts how many values were at most each bound, in seconds."""

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str = "") -> Iterator[str]:
        """The samples. `labels` as `key="value"`, separated by commas."""
        before = f"{labels}," if labels else ""
        around = f"{{{labels}}}" if labels else ""
        bounds = (*map(_number, self._bounds), "+Inf")
        for bound, count in zip(bounds, accumulate(self._counts), strict=True):
            yield f'{name}_bucket{{{before}le="{bound}"}} {count}'
        yield f"{name}_sum{around} {self._sum:.6f}"
        yield f"{name}_count{around} {sum(self._counts)}"


class Metrics:
    """Counters since the start."""

    def __init__(self, model: str, load_seconds: float) -> None:
        self._model = model
        self._load_seconds = load_seconds
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: defaultdict[str, Histogram] = defaultdict(Histogram)
        self._first_token = Histogram()
        self._failures = 0  # in a row

    def count(self, endpoint: str, status: int, seconds: float, first_token: float | None) -> None:
        """Count a finished request. `first_token` is the time to its first new token, seconds."""
        self._requests[endpoint, status] += 1
        self._seconds[endpoint].add(seconds)
        if first_token is not None:
            self._first_token.add(first_token)
        if status == 500:
            self._failures += 1
        elif first_token is not None:
            self._failures = 0

    @property
    def failing(self) -> bool:
        """Whether the model failed on the last requests and has answered none since."""
        return self._failures >= FAILURES

    def text(self, load: Load) -> str:
        """The text of `/metrics`."""
        return "".join(f"{line}\n" for line in self._lines(load))

    def _lines(self, load: Load) -> Iterator[str]:
        yield from _head("trainer_serve_requests_total", "counter", "Finished requests.")
        for (endpoint, status), count in sorted(self._requests.items()):
            labels = f'endpoint="{_escaped(endpoint)}",status="{status}"'
            yield f"trainer_serve_requests_total{{{labels}}} {count}"
        name = "trainer_serve_request_seconds"
        yield from _head(
            name, "histogram", "Time from a request's arrival to the end of its answer."
        )
        for endpoint, histogram in sorted(self._seconds.items()):
            yield from histogram.lines(name, f'endpoint="{_escaped(endpoint)}"')
        name = "trainer_serve_time_to_first_token_seconds"
        yield from _head(name, "histogram", "Time from a request's arrival to its first new token.")
        yield from self._first_token.lines(name)
        for key, kind, words, value in (
            ("tokens_generated_total", "counter", "Generated tokens.", load.tokens_generated),
            ("prompt_tokens_total", "counter", "Prompt tokens.", load.prompt_tokens),
            ("tokens_drafted_total", "counter", "Drafts of extra heads.", load.tokens_drafted),
            ("drafts_accepted_total", "counter", "Accepted drafts.", load.drafts_accepted),
            ("running", "gauge", "Sequences being decoded.", load.running),
            ("waiting", "gauge", "Sequences waiting for a slot.", load.waiting),
            ("capacity", "gauge", "Sequences that can be decoded at once.", load.capacity),
            ("model_load_seconds", "gauge", "Time to open the model.", self._load_seconds),
        ):
            yield from _head(f"trainer_serve_{key}", kind, words)
            yield f"trainer_serve_{key} {_number(value)}"
        yield from _head("trainer_serve_model_info", "gauge", "The served model.")
        yield f'trainer_serve_model_info{{model="{_escaped(self._model)}"}} 1'


def _head(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
