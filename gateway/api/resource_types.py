"""The collections of registered resources, as the API shows them."""

from typing import NamedTuple

from contract.enrolment import ENROLMENT_ID
from contract.kinds import CLIENT, HEADEND
from contract.registry import CLUSTER, ENROLMENT, RELAY


class Resource(NamedTuple):
    """A registered kind; `response_fields` are the attributes that a response contains."""

    kind: str
    path: str
    id_field: str
    response_fields: tuple[str, ...]
    filters: tuple[str, ...]
    has_key: bool = True


RESOURCES = (
    Resource(
        CLIENT.name,
        CLIENT.collection,
        CLIENT.id_label,
        ("type", ENROLMENT_ID),
        ("type", ENROLMENT_ID),
    ),
    Resource(
        HEADEND.name,
        HEADEND.collection,
        HEADEND.id_label,
        ("cluster_id", "region", "datacenter", ENROLMENT_ID),
        ("cluster_id", "region", "datacenter", ENROLMENT_ID),
    ),
    Resource(
        CLUSTER,
        "clusters",
        "cluster_id",
        ("region", "datacenter", "headend_url"),
        ("region", "datacenter"),
        has_key=False,
    ),
    Resource(RELAY, "relays", "relay_id", (), ()),
)
ENROLMENTS = Resource(
    ENROLMENT, "enrolments", "enrolment_id", ("cluster_id", "id_prefix"), (), has_key=False
)
"""Shown and removed like those, but created and not registered."""
