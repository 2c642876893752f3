"""Compares ledgers with their source until the result is confirmed. Changes nothing."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from contract.ledger import LedgerRow
from processor.core.partition_state import PartitionState
from processor.core.source_history import (
    Confirmation,
    Finding,
    SourceLogState,
    Uncertain,
    compare_ledger,
    known_topic,
)
from processor.source.log_state import collect_each
from service.kafka.source_reader import SourceReader

TIMEOUT = 10.0
"""Seconds for a comparison with its confirmations."""
CONFIRMATIONS, CONFIRM_INTERVAL = 3, 1.0
"""Consecutive comparisons that must find the same new history, and the seconds between them."""


async def compare(reader: SourceReader, states: Mapping[int, PartitionState]) -> dict[int, Finding]:
    """Compare the ledgers of these states with the source.

    A broker that was frozen responds for a moment as if it still led its partitions, so a new
    history must be found several times. Partitions with insufficient information are left out.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT
    epochs = {partition: state.source_epoch for partition, state in states.items()}
    ledgers = {partition: state.ledger for partition, state in states.items()}
    runs = {partition: Confirmation(CONFIRMATIONS) for partition in states}
    found: dict[int, Finding] = {}
    while ledgers:
        try:
            async with asyncio.timeout_at(deadline):
                log_state = await collect_each(reader, ledgers, epochs)
        except TimeoutError:
            break
        for partition, each in log_state.items():
            state = states[partition]
            finding = assess(state, ledgers[partition], each)
            if runs[partition].add(finding) or remains_stopped(state, finding):
                found[partition] = finding
        ledgers = {p: ledgers[p] for p in log_state if p not in found}
        if ledgers:
            if loop.time() + CONFIRM_INTERVAL > deadline:
                break
            await asyncio.sleep(CONFIRM_INTERVAL)
    return found


def assess(state: PartitionState, ledger: LedgerRow, log_state: SourceLogState) -> Finding:
    """Compare a ledger with its source; one without a topic id stays uncertain if it was before."""
    if state.source_fault is not None and known_topic(ledger) is None:
        log_state = replace(log_state, stopped=state.source_fault)
    return Finding(ledger, log_state, compare_ledger(ledger, log_state))


def remains_stopped(state: PartitionState, finding: Finding) -> bool:
    """Return whether a stopped partition stays stopped; one comparison is enough for that."""
    return state.source_fault is not None and isinstance(finding.comparison, Uncertain)
