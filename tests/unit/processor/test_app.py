"""The Faust application of a worker."""

from pathlib import Path

from processor.faust_compat.diskless_app import DisklessApp
from processor.runtime.faust_app import faust_app
from processor.settings import ProcessorSettings
from service.config.secrets import ReloadableTokens
from service.kafka.clients import client_options


def test_no_directory_is_created(tmp_path: Path) -> None:
    """Faust creates its directories at every start, which fails on a container's read-only file
    system."""
    app = DisklessApp("test", datadir=tmp_path / "data", store="memory://")
    assert app.conf.datadir == tmp_path / "data"
    app._create_directories()
    assert list(tmp_path.iterdir()) == []


def test_brokers_that_are_back_are_soon_known() -> None:
    """A client that knows only one broker waits for it if it goes, although others are
    available."""
    settings = ProcessorSettings(
        kafka_bootstrap_servers="localhost:1", metrics_token=ReloadableTokens("token")
    )
    conf = faust_app(settings).conf
    ages = [conf.consumer_metadata_max_age_ms, conf.producer_metadata_max_age_ms]
    assert max(*ages, client_options(settings)["metadata_max_age_ms"]) <= 10_000
