"""URLs of the local run and of other installations."""

import pytest

from tobogganing.devstack.local_run import url_fault, without_localhost

RUN = ["http://127.0.0.1:8000", "http://192.0.2.7:8000"]


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("8471", "'8471' has no scheme: write http://127.0.0.1:8471,"),
        ("127.0.0.1:8471", "write http://127.0.0.1:8471, or https://127.0.0.1:8471 with TLS"),
        ("gw.example.com", "write http://gw.example.com,"),
        ("localhost:1", "has no scheme: write http://localhost:1,"),
        ("ftp://gw", "must be http or https"),
        ("http://", "no valid host"),
        ("http://gw:99999", "no valid host and port"),
        ("http://[gw", "no valid host and port"),
        ("http://[[::1]]:80", "no valid host and port"),
        ("http://gw:8000/", ""),
        ("https://[::1]:8443", ""),
    ],
)
def test_a_wrong_url_is_explained(url: str, fault: str) -> None:
    assert (fault in url_fault(url)) if fault else not url_fault(url)


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("http://localhost:8000", RUN[0]),
        ("http://LOCALHOST:8000/", RUN[0]),
        ("http://localhost:8001", "http://localhost:8001"),
        ("https://localhost:8000", "https://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://192.0.2.7:8000", "http://192.0.2.7:8000"),
    ],
)
def test_localhost_is_replaced_by_the_address_that_the_run_serves(url: str, used: str) -> None:
    assert without_localhost(url, RUN) == used
    assert without_localhost(url, []) == url
