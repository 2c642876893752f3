"""Every setting of every service is bounded where it must be, and documented."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from exporter.settings import ExporterSettings
from gateway.settings import GatewaySettings
from processor.settings import ProcessorSettings
from service.config.settings import SettingsError, load_settings
from tobogganing.manager import ServeSettings

ALL: list[type[Any]] = [GatewaySettings, ExporterSettings, ProcessorSettings, ServeSettings]
OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


@pytest.mark.parametrize("settings", ALL)
def test_every_setting_is_in_the_operations_guide(settings: type[Any]) -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    assert [f.name.upper() for f in fields(settings) if f"`{f.name.upper()}`" not in text] == []


@pytest.mark.parametrize("settings", ALL)
def test_a_port_is_a_port(settings: type[Any]) -> None:
    with pytest.raises(SettingsError, match="PORT='99999' is not valid"):
        load_settings(settings, {"PORT": "99999"})


@pytest.mark.parametrize("settings", ALL)
def test_everything_that_is_missing_is_named_at_once(settings: type[Any]) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(settings, {})
    lines = str(raised.value).splitlines()
    assert "KAFKA_BOOTSTRAP_SERVERS is not set" in lines
    assert "METRICS_TOKEN (or METRICS_TOKEN_FILE) is not set" in lines
