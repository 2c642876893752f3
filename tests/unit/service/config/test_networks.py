"""Lists of addresses and networks in settings."""

import pytest

from service.config.networks import Networks
from service.config.settings import HttpSettings, SettingsError, load_settings


def networks(text: str) -> list[str]:
    settings = load_settings(HttpSettings, {"METRICS_TOKEN": "t" * 16, "TRUSTED_PROXIES": text})
    return [str(network) for network in settings.trusted_proxies]


def test_no_proxy_is_trusted_by_default() -> None:
    settings = load_settings(HttpSettings, {"METRICS_TOKEN": "t" * 16})
    assert not settings.trusted_proxies
    assert networks("") == []
    assert networks(" , ") == []


def test_addresses_and_networks_are_parsed() -> None:
    text = "10.0.0.7, 192.168.0.0/16,2001:db8::/32,::1"
    assert networks(text) == ["10.0.0.7/32", "192.168.0.0/16", "2001:db8::/32", "::1/128"]
    shown = "Networks('10.0.0.7/32, 192.168.0.0/16')"
    assert repr(Networks("10.0.0.7,192.168.0.0/16")) == shown


@pytest.mark.parametrize("text", ["*", "edge", "10.0.0.7/8", "10.0.0", "10.0.0.1 10.0.0.2"])
def test_wildcards_and_names_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"TRUSTED_PROXIES=.* is not valid"):
        networks(text)
