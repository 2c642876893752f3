"""The names in a node's certificate.

The first URN is the node's. The second names the registration for which the certificate was issued,
and how often all credentials of the node had been revoked by then, as in a token's `jti`. So a
certificate is not valid for a later registration of the same id, and ends with the node's tokens.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from contract.kinds import ID_PATTERN, KINDS

_NODE = re.compile(rf"urn:tobogganing:({'|'.join(KINDS)}):({ID_PATTERN})")
_REGISTRATION = re.compile(r"urn:tobogganing:registration:([0-9]{1,19})\.([0-9]{1,9})", re.ASCII)


class CertifiedNode(NamedTuple):
    """The node and the registration that a certificate names."""

    kind: str
    id: str
    incarnation: int
    token_epoch: int


def encode_names(node: CertifiedNode) -> list[str]:
    """Return the URNs of a certificate."""
    return [
        f"urn:tobogganing:{node.kind}:{node.id}",
        f"urn:tobogganing:registration:{node.incarnation}.{node.token_epoch}",
    ]


def decode_names(urns: Sequence[str]) -> CertifiedNode:
    """Return what the URNs of a certificate name.

    Raises:
        ValueError: they are not exactly those that `encode_names` returns.
    """
    if len(urns) != 2:
        raise ValueError(f"{len(urns)} URNs instead of 2")
    node, registration = _NODE.fullmatch(urns[0]), _REGISTRATION.fullmatch(urns[1])
    if node is None or registration is None:
        raise ValueError("other URNs than those of a node")
    return CertifiedNode(node[1], node[2], int(registration[1]), int(registration[2]))
