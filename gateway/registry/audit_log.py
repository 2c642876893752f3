"""The audit log: every administrative change is written to a topic before it is made.

So every change has a record, even if the gateway dies. A change that failed or was not confirmed
gets a second record with its outcome. The log shows each change twice: as attempted, and with its
outcome.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import structlog

from contract.audit import AUDIT_VERSION, AuditRecord, ChangeOutcome, encode_audit
from gateway.produce.producer import SendError
from gateway.registry.writer import RecordSender, UnconfirmedError
from service.http.errors import ApiError, unavailable

log = structlog.get_logger(__name__)

ADMIN = "admin"
"""Actor of a change that was authenticated with ADMIN_TOKEN."""

MAY_TAKE_EFFECT = "Kafka did not confirm the change in time: it may still take effect"

MAX_LOGGED = 300
"""Characters of a detail that the log shows."""

OUTCOME_TIMEOUT = 60.0
"""Seconds during which the record of an unconfirmed change is retried."""


class AuditedChange(NamedTuple):
    """An authorised change that is about to be made; see contract.audit for the fields."""

    actor: str
    action: str
    target: str
    address: str
    details: dict[str, str] = {}  # noqa: RUF012


class AuditLog:
    """Writes to the audit topic and to the log."""

    def __init__(self, topic: str, sender: RecordSender) -> None:
        self._topic = topic
        self._sender = sender
        self._outcome_tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def recording(
        self, change: AuditedChange, deadline: float, unconfirmed: str = MAY_TAKE_EFFECT
    ) -> AsyncIterator[None]:
        """Context in which a change is made; `deadline` is on the monotonic clock.

        Raises:
            ApiError: 503 if Kafka did not confirm the audit record, so that the change was not
                started; 503 with the error `unconfirmed` if it did not confirm the change;
                otherwise the error of the change.
        """
        record = AuditRecord(
            version=AUDIT_VERSION,
            request=secrets.token_hex(8),
            outcome=ChangeOutcome.ALLOWED,
            **change._asdict(),
        )
        _log(record, "attempted")
        try:
            await self._write(record, deadline)
        except (SendError, TimeoutError) as error:
            # Kafka may have appended the record anyway, or append it later.
            reason = "Kafka did not confirm the audit record in time: nothing was changed"
            self._amend_later(record, ChangeOutcome.REFUSED, reason)
            raise unavailable(reason) from error
        try:
            yield
        except UnconfirmedError as error:
            self._amend_later(record, ChangeOutcome.UNCONFIRMED, unconfirmed)
            raise unavailable(unconfirmed) from error
        except ApiError as error:
            if error.status < 500:
                await self._record_outcome(record, ChangeOutcome.REFUSED, str(error), deadline)
            else:
                self._amend_later(record, ChangeOutcome.UNCONFIRMED, str(error))
            raise
        except Exception as error:  # whatever failed, the outcome is unknown, and must say so
            self._amend_later(record, ChangeOutcome.UNCONFIRMED, repr(error))
            raise
        _log(record, "done")

    def _amend_later(self, record: AuditRecord, outcome: ChangeOutcome, reason: str) -> None:
        """Write the outcome in the background, because the deadline of the change has passed."""
        later = time.monotonic() + OUTCOME_TIMEOUT
        task = asyncio.create_task(
            self._record_outcome(record, outcome, reason, later), name="audit"
        )
        self._outcome_tasks.add(task)
        task.add_done_callback(self._outcome_tasks.discard)

    async def _record_outcome(
        self, record: AuditRecord, outcome: ChangeOutcome, reason: str, deadline: float
    ) -> None:
        amended = msgspec.structs.replace(record, outcome=outcome, reason=reason)
        _log(amended, outcome.value)
        try:
            await self._write(amended, deadline)
        except (SendError, TimeoutError) as error:
            log.warning("audit record not confirmed", request=record.request, reason=repr(error))

    async def _write(self, record: AuditRecord, deadline: float) -> None:
        async with asyncio.timeout(deadline - time.monotonic()):
            await self._sender.wait_until_ready()
            await self._sender.send(
                self._topic, encode_audit(record), partition=0, key=record.target.encode()
            )


def _log(record: AuditRecord, outcome: str) -> None:
    details = {name: _shortened(value) for name, value in record.details.items()}
    fields = msgspec.to_builtins(msgspec.structs.replace(record, details=details))
    log.info("audit", **(fields | {"outcome": outcome}))


def _shortened(value: str) -> str:
    """A detail as the log has it: the topic has all of it."""
    return value if len(value) <= MAX_LOGGED else value[:MAX_LOGGED] + "…"
