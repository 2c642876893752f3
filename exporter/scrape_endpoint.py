"""The endpoint `/metrics`: waits for receipts, then responds with one snapshot of all entities."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response

from contract.position import NO_TIME, Receipt
from exporter.metrics import ExporterMetrics
from exporter.scrape.read_barrier import ReadBarrier, parse_receipts
from exporter.scrape.response import SlowReaderLimiter
from exporter.scrape.single_flight import ScrapeSingleFlight, Snapshot
from exporter.settings import ExporterSettings
from exporter.state.source_lag import SourceLagMonitor
from exporter.state.store import StateStore
from service.http.errors import unavailable
from service.metrics.exposition import EOF, head_response, negotiate, render


class ScrapeEndpoint:
    """Responds to scrapes; `registries` are exported after the entities."""

    def __init__(
        self,
        settings: ExporterSettings,
        store: StateStore,
        source_lag: SourceLagMonitor,
        barrier: ReadBarrier,
        metrics: ExporterMetrics,
        registries: Sequence[CollectorRegistry],
    ) -> None:
        self._settings = settings
        self._store = store
        self._source_lag = source_lag
        self._barrier = barrier
        self._metrics = metrics
        self._registries = registries
        self._single_flight = ScrapeSingleFlight(self._take_snapshot, metrics.observe_scrape)
        self._slow_readers = SlowReaderLimiter(
            settings.send_within_seconds, metrics.scrapes_cut_off.inc
        )

    async def respond(self, request: Request, check_caught_up: Callable[[], None]) -> Response:
        """Return the response to a scrape.

        Raises:
            ApiError: 503, the state is incomplete (`check_caught_up`), there are too many series,
                or a receipt is ambiguous; others as of the read barrier.
        """
        receipts = parse_receipts(request.query_params.getlist("after"))
        self._check_source(receipts)
        await self._barrier.wait_for(receipts, self._settings.after_timeout_seconds)
        check_caught_up()
        negotiated = negotiate(request)
        self._check_series()
        if request.method == "HEAD":
            return head_response(negotiated)
        rendered = await self._single_flight.exposition(openmetrics=negotiated.openmetrics)
        return self._slow_readers.response(rendered, negotiated)

    def _check_source(self, receipts: Sequence[Receipt]) -> None:
        """Reject receipts that are ambiguous because the partition lost its end.

        Raises:
            ApiError: 503, the offset of a receipt may identify two submissions.
        """
        missing = self._source_lag.missing()
        for receipt in receipts:
            partition, ledger = receipt.partition, self._store.ledgers.get(receipt.partition)
            has_no_time = receipt.appended == NO_TIME or ledger is None or ledger.mark is None
            if has_no_time and missing.get(partition):
                raise unavailable(
                    f"Partition {partition} of the submissions topic has lost its end; the "
                    "receipt cannot be resolved yet"
                )

    def _check_series(self) -> None:
        """Reject a scrape with too many series: with a partial one, entities would seem to be gone.

        Raises:
            ApiError: 503, there are more series than MAX_SERIES.
        """
        series, limit = self._store.series(), self._settings.max_series
        if limit and series > limit:
            self._metrics.scrapes_refused.inc()
            raise unavailable(
                f"There are {series} series, more than MAX_SERIES={limit}; increase it, or shard "
                "the exporters",
                retry_after=60,
            )

    def _take_snapshot(self, openmetrics: bool) -> Snapshot:
        """Collect everything without an await in between, so that a scrape is one point in time."""
        rest = render(openmetrics, self._registries) + (EOF if openmetrics else b"")
        return Snapshot(self._store.snapshot(), rest)
