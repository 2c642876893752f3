"""The Faust application of a worker, and its settings."""

from typing import Any

import faust

from processor.faust_compat.assignor import StaticMemberAssignor
from processor.faust_compat.diskless_app import DisklessApp
from processor.faust_compat.table import PromptTableManager
from processor.membership.fencing import instance_id
from processor.settings import ProcessorSettings
from processor.table.state_table import StateTable
from service.kafka.clients import METADATA_MAX_AGE_MS, ssl_context
from service.process_name import process_name

# Rule 8, static membership and short timeouts: a killed worker gets its partitions back in 2-3 s;
# one that stops normally leaves the group (leave_group.py).
SESSION_TIMEOUT = 8.0
HEARTBEAT_INTERVAL = 1.0
"""Seconds; workers learn of a rebalance from a heartbeat response."""
REBALANCE_TIMEOUT = 10.0
REQUEST_TIMEOUT = 9.0
"""Seconds. Faust's default of 90 s would wait for a dead broker; Faust requires more than
the session timeout."""
COMMIT_INTERVAL = 0.5
QUEUED_POLLS = 128
"""Maximum number of events in memory; an event has up to 256 KiB (processor.faust_compat.poll)."""


def faust_app(settings: ProcessorSettings) -> faust.App:
    servers = settings.kafka_bootstrap_servers.split(",")
    return DisklessApp(
        settings.group,
        broker_client_id=f"{process_name()}-consumer",
        broker=[f"kafka://{server.strip()}" for server in servers],
        broker_credentials=_credentials(settings),
        Table=StateTable,
        TableManager=PromptTableManager,
        PartitionAssignor=StaticMemberAssignor,
        store="memory://",
        datadir="/nonexistent",
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        producer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        consumer_group_instance_id=instance_id(settings),
        broker_session_timeout=SESSION_TIMEOUT,
        broker_heartbeat_interval=HEARTBEAT_INTERVAL,
        broker_rebalance_timeout=REBALANCE_TIMEOUT,
        broker_request_timeout=REQUEST_TIMEOUT,
        broker_commit_interval=COMMIT_INTERVAL,
        producer_linger=0,
        producer_request_timeout=4,
        stream_buffer_maxsize=QUEUED_POLLS,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.kafka_partitions,
        topic_replication_factor=settings.kafka_replication,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )


def _credentials(settings: ProcessorSettings) -> Any:
    protocol = settings.kafka_security_protocol
    context = ssl_context(settings) if "SSL" in protocol else None
    if "SASL" in protocol:
        password = settings.kafka_sasl_password
        return faust.SASLCredentials(
            mechanism=settings.kafka_sasl_mechanism,
            username=settings.kafka_sasl_username,
            password=password.reveal() if password else None,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None
