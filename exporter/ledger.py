"""The ledger as JSON: what became of each partition's submissions, without a whole scrape."""

from collections.abc import Mapping
from typing import Any

from contract.row import LedgerRow
from exporter.metrics import PIPELINE_FAMILIES


def ledger_document(ledgers: Mapping[int, LedgerRow], lag: Mapping[int, int]) -> dict[str, Any]:
    """What `/api/v1/ledger` answers; `lag` is in records, and lacks what Kafka has not told yet."""
    return {
        "balances": all(row.balances for row in ledgers.values()),
        "partitions": [
            {
                "partition": partition,
                "offset": row.offset,
                **{field: getattr(row, field) for field in PIPELINE_FAMILIES},
                "lag_records": lag.get(partition),
                "balances": row.balances,
            }
            for partition, row in sorted(ledgers.items())
        ],
    }
