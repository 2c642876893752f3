"""The collections of what can be registered, as the API shows them."""

from typing import NamedTuple

from contract.kinds import CLIENT, HEADEND
from contract.registry import CLUSTER, RELAY


class Collection(NamedTuple):
    """A kind of what is registered; `shown` are the attributes that an answer has."""

    kind: str
    path: str
    id_field: str
    shown: tuple[str, ...]
    filters: tuple[str, ...]
    has_key: bool = True


COLLECTIONS = (
    Collection(CLIENT.name, CLIENT.collection, CLIENT.id_label, ("type",), ("type",)),
    Collection(
        HEADEND.name,
        HEADEND.collection,
        HEADEND.id_label,
        ("cluster_id", "region", "datacenter"),
        ("cluster_id", "region", "datacenter"),
    ),
    Collection(
        CLUSTER,
        "clusters",
        "cluster_id",
        ("region", "datacenter", "headend_url"),
        ("region", "datacenter"),
        has_key=False,
    ),
    Collection(RELAY, "relays", "relay_id", (), ()),
)
