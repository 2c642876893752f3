"""Faust's partition assignor, for static members whose host name changes."""

from typing import cast

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from faust.assignor import PartitionAssignor
from faust.assignor.client_assignment import ClientMetadata


class StaticMemberAssignor(PartitionAssignor):
    """Accepts an assignment that was computed for an earlier process of the same static member.

    If a static member joins within the session timeout, the coordinator responds with the
    assignment of its predecessor, without a rebalance (KIP-345). Faust writes the URL of the member
    into the assignment and asserts that it is its own, but a recreated container or pod has another
    host name."""

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        metadata = cast(
            ClientMetadata, ClientMetadata.loads(self._decompress(assignment.user_data))
        )
        metadata.url = str(self._url)
        super().on_assignment(
            ConsumerProtocolMemberAssignment(
                assignment.version, assignment.assignment, self._compress(metadata.dumps())
            )
        )
