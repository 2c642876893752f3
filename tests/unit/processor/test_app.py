"""Faust's application as a worker uses it."""

from pathlib import Path

from processor.app import DisklessApp, faust_app
from processor.settings import ProcessorSettings
from service.config.secrets import ReloadableTokens
from service.kafka.clients import client_options


def test_no_folder_is_made_where_none_could_be(tmp_path: Path) -> None:
    """Faust makes its folders at every start: in a container that would be the end of it."""
    app = DisklessApp("test", datadir=tmp_path / "data", store="memory://")
    assert app.conf.datadir == tmp_path / "data"
    app._create_directories()
    assert list(tmp_path.iterdir()) == []


def test_brokers_that_are_back_are_soon_known() -> None:
    """A client that knows of one broker alone waits for it, if it goes, whoever else is there."""
    settings = ProcessorSettings(
        kafka_bootstrap_servers="localhost:1", metrics_token=ReloadableTokens("token")
    )
    conf = faust_app(settings).conf
    ages = [conf.consumer_metadata_max_age_ms, conf.producer_metadata_max_age_ms]
    assert max(*ages, client_options(settings)["metadata_max_age_ms"]) <= 10_000
