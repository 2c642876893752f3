"""A gateway for fuzzers: all components are real, but nothing leaves the process.

Records for Kafka are confirmed at once and dropped. No input has the admin token, so no input can
change the gateway.
"""

import itertools
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiokafka import ConsumerRecord
from prometheus_client import CollectorRegistry

from contract.kinds import CLIENT, HEADEND
from contract.registry import RECORD_VERSION, RELAY, RegistryRecord, encode_record, hash_api_key
from gateway.app import Gateway
from gateway.produce.ack_monitor import AckMonitor
from gateway.produce.cluster_time import ClusterTime
from gateway.produce.producer import RecordMetadata
from gateway.settings import GatewaySettings
from service.config.secrets import ReloadableTokens
from service.http.application import Application, build_app
from service.metrics.requests import RequestMetrics
from tobogganing.devstack.secrets import provide_signing_keys

API_KEY = "k" * 43
RELAY_KEY = f"r.{API_KEY}"


class _Confirming:
    """Replaces the producer: confirms every record, and keeps none."""

    connected = True

    def __init__(self) -> None:
        self.ack_monitor = AckMonitor()
        self._offsets = itertools.count()
        self.time = ClusterTime()
        self.time.observe("broker", time.time_ns() // 1_000_000, 0.0)

    async def run(self) -> None:
        return

    async def wait_until_ready(self) -> None:
        return

    async def send(self, *_: Any, **__: Any) -> RecordMetadata:
        return RecordMetadata(next(self._offsets), time.time_ns() // 1_000_000)

    async def send_all(self, *_: Any, **__: Any) -> None:
        return


def records() -> Iterator[RegistryRecord]:
    """Yield the registered entities: the client `c`, the headend `h`, the relay `r`."""
    attributes = {
        CLIENT.name: {"type": "native"},
        HEADEND.name: {"cluster_id": "k", "region": "eu", "datacenter": "fra"},
        RELAY: {"scope": "all"},
    }
    keys = {CLIENT.name: API_KEY, HEADEND.name: API_KEY, RELAY: RELAY_KEY}
    for kind, given in attributes.items():
        yield RegistryRecord(
            version=RECORD_VERSION,
            kind=kind,
            id=kind[0],
            revision=1,
            name=kind,
            attributes=given,
            api_keys=[hash_api_key(keys[kind])],
        )


class Offline:
    """The gateway, its application, and a headend's token."""

    def __init__(self, folder: Path) -> None:
        settings = GatewaySettings(
            kafka_bootstrap_servers="127.0.0.1:1",
            metrics_token=ReloadableTokens(secrets.token_hex()),
            admin_token=ReloadableTokens(secrets.token_hex()),
            signing_keys_dir=str(provide_signing_keys(folder, {})),
            rate_limit_per_minute=0,
            auth_failures_per_minute=0,
        )
        requests = RequestMetrics(CollectorRegistry())
        self.gateway = Gateway(settings, requests, producer=_Confirming())
        self.app: Application = build_app(
            self.gateway.routes(), requests, None, self.gateway.fast_path
        )
        self.registry = self.gateway.registry
        self._know([*records()])
        self.registry.tailer.caught_up = True
        self.registry.tailer.catch_up = self._catch_up  # type: ignore[method-assign]

    async def _catch_up(self, timeout: float) -> None:
        return

    def _know(self, registered: list[RegistryRecord]) -> None:
        for offset, record in enumerate(registered):
            value = encode_record(record)
            found = ConsumerRecord(
                *("registry", 0, offset, 0, 1, record.key, value, None, len(record.key)),
                len(value),
                (),
            )
            self.registry.apply(0, [found])
