"""The JSON document of `/api/v1/ledger`: the outcomes of each partition's submissions."""

from collections.abc import Mapping
from typing import Any

from contract.ledger import LedgerRow
from exporter.metrics import PIPELINE_FAMILIES


def ledger_document(
    ledgers: Mapping[int, LedgerRow], lag: Mapping[int, int], missing: Mapping[int, int]
) -> dict[str, Any]:
    """Return the response of `/api/v1/ledger`.

    `lag` and `missing` are in records; partitions that Kafka has not reported yet are absent.
    """
    return {
        "balances": all(row.balances for row in ledgers.values()),
        "partitions": [
            {
                "partition": partition,
                "offset": row.next_offset - 1,
                "logical_offset": row.offset,
                **{field: getattr(row, field) for field in PIPELINE_FAMILIES},
                "lag_records": lag.get(partition),
                "missing_records": missing.get(partition),
                "histories": row.parted + 1,
                "cut": row.cut.count if row.cut is not None else 0,
                "balances": row.balances,
            }
            for partition, row in sorted(ledgers.items())
        ],
    }
