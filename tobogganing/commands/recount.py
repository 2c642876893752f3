"""Counting a partition's submissions again, and comparing with its ledger. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contract.frame import FrameError, decode_frame


@dataclass
class Recount:
    """What a partition holds from offset `first` up to `end`, the first that its ledger does not
    cover.
    """

    partition: int
    first: int
    end: int
    missing: bool = False
    """The topic ends before its ledger does: it went back."""
    histories: int = 1
    """How often the topic's offsets began anew, and once more: what was cut off is not there."""
    records: int = 0
    submissions: int = 0
    late: int = 0
    undecodable: int = 0
    """Frames that cannot be decoded: each counts as one submission."""

    def count(self, value: bytes | None, appended: int) -> None:
        """Count a record, as the processor does; `appended` is in milliseconds."""
        self.records += 1
        try:
            frame = decode_frame(value)
        except FrameError:
            self.submissions += 1
            self.undecodable += 1
            return
        self.submissions += len(frame.submissions)
        if frame.is_late(appended):
            self.late += len(frame.submissions)

    @property
    def is_whole(self) -> bool:
        """Whether nothing has been deleted, so that every count can be compared."""
        return self.first == 0 and self.histories == 1

    def differences(self, ledger: Mapping[str, Any]) -> list[str]:
        """What does not agree with the ledger, in words.

        Of what was deleted nothing can be known: the rest cannot be more than the whole.
        """
        if self.missing:
            return [f"the topic ends before offset {ledger['offset']}, which the ledger covers"]
        found = []
        for what, counted, booked in (
            ("submissions", self.submissions, ledger["read"]),
            ("late ones", self.late, ledger["late"]),
        ):
            if counted > booked or (self.is_whole and counted != booked):
                found.append(f"{counted:,} {what} are in the topic, {booked:,} in the ledger")
        if self.undecodable > ledger["dead_lettered"]:
            found.append(
                f"{self.undecodable:,} frames cannot be decoded, but only "
                f"{ledger['dead_lettered']:,} submissions are dead-lettered"
            )
        return found

    def document(self, ledger: Mapping[str, Any]) -> dict[str, Any]:
        """What `--json` answers."""
        return {
            "partition": self.partition,
            "from": self.first,
            "records": self.records,
            "submissions": self.submissions,
            "late": self.late,
            "undecodable": self.undecodable,
            "whole": self.is_whole,
            "agrees": not self.differences(ledger),
        }
