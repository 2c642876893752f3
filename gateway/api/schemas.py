"""Request and response bodies of the management API, for validation and OpenAPI."""

import datetime
import re
import secrets
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from contract.kinds import CLIENT, ID_PATTERN, KINDS, TEXT_PATTERN, TYPE_ALIASES, is_id, text_fault
from contract.registry import ENROLMENT, RELAY
from gateway.auth.csr import MAX_REQUEST
from gateway.body.json import BodyError
from gateway.registry.named_keys import named_key

CLIENT_TYPES = {name: name for name in CLIENT.types} | TYPE_ALIASES
"""Accepted values of `type` in a registration, and the client type that each means."""
NODE_KINDS = {name: name for name in KINDS} | dict.fromkeys(TYPE_ALIASES, CLIENT.name)
"""Accepted values of `node_type`, and the entity kind that each means."""

MAX_OVERLAP = 7 * 86_400
"""Maximum number of seconds for which an old API key stays valid after a rotation."""

Id = Annotated[
    str, Meta(min_length=1, max_length=128, extra_json_schema={"pattern": f"^{ID_PATTERN}$"})
]
Text = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        description="Any characters except control characters and line separators.",
        extra_json_schema={"pattern": TEXT_PATTERN},
    ),
]
Url = Annotated[str, Meta(max_length=2048, extra_json_schema={"pattern": TEXT_PATTERN})]
Csr = Annotated[
    str,
    Meta(
        max_length=MAX_REQUEST,
        description="Certificate request (PKCS #10, PEM); its names are not used.",
    ),
]
Certificate = Annotated[str, Meta(description="PEM")]
DateTime = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Ignored = Annotated[
    list[str],
    Meta(description="Unknown fields of the request: at most 20, each cut after 64 characters."),
]
ApiKey = Annotated[str, Meta(description="Returned only once: the registry stores a hash.")]


_KEY = "[A-Za-z0-9_-]{43,128}"
"""Pattern of a key that the node generates: base64url, at least 256 bits."""


class ClientRegistration(msgspec.Struct):
    name: Text
    type: Annotated[str, Meta(extra_json_schema={"enum": list(CLIENT_TYPES)})]
    client_id: Id | None = None
    csr: Csr | None = None


class Registered(msgspec.Struct, kw_only=True):
    """What every registration responds."""

    ignored: Ignored | UnsetType = UNSET


class ClientRegistered(Registered):
    client_id: str
    api_key: ApiKey
    name: str
    type: str
    certificate: Certificate | UnsetType = UNSET
    ca_certificate: Certificate | UnsetType = UNSET
    expires_at: DateTime | UnsetType = UNSET


class ClusterRegistration(msgspec.Struct):
    name: Text
    region: Text
    datacenter: Text
    headend_url: Url | None = None
    cluster_id: Id | None = None


class ClusterRegistered(Registered):
    cluster_id: str
    name: str
    region: str
    datacenter: str


class HeadendRegistration(msgspec.Struct):
    name: Text
    cluster_id: Id
    headend_id: Id | None = None
    csr: Csr | None = None


class HeadendRegistered(Registered):
    headend_id: str
    api_key: ApiKey
    certificate: Certificate | UnsetType = UNSET
    ca_certificate: Certificate | UnsetType = UNSET
    expires_at: DateTime | UnsetType = UNSET


class RelayRegistration(msgspec.Struct):
    name: Text
    scope: Annotated[
        Literal["all"] | Annotated[list[Id], Meta(min_length=1)],
        Meta(description="`all`, or the ids of the clients and headends that it submits for."),
    ]
    relay_id: Id | None = None


class RelayRegistered(Registered):
    relay_id: str
    api_key: ApiKey


class TokenRequest(msgspec.Struct):
    node_id: Id
    node_type: Annotated[str, Meta(extra_json_schema={"enum": list(NODE_KINDS)})]
    api_key: Annotated[str, Meta(min_length=1, max_length=4096)]


class TokenIssued(msgspec.Struct):
    access_token: str
    token_type: str
    expires_at: DateTime


class CertificateRequest(msgspec.Struct):
    node_id: Id
    node_type: Annotated[str, Meta(extra_json_schema={"enum": list(NODE_KINDS)})]
    csr: Csr


class CertificateIssued(msgspec.Struct):
    certificate: Certificate
    ca_certificate: Certificate
    expires_at: DateTime


class CaCertificate(msgspec.Struct):
    ca_certificate: Certificate


class Revocation(msgspec.Struct, omit_defaults=True):
    """One token by its `jti`, or all tokens of a node."""

    jti: Id | None = None
    node_id: Id | None = None
    node_type: Annotated[str, Meta(extra_json_schema={"enum": list(NODE_KINDS)})] | None = None


class Revoked(msgspec.Struct, omit_defaults=True):
    status: str
    jti: str | None = None
    node_id: str | None = None
    node_type: str | None = None


class PublicKey(msgspec.Struct):
    public_key: Annotated[str, Meta(description="PEM")]
    kid: str


class SigningKeyCreated(msgspec.Struct):
    kid: str


_OverlapSeconds = Annotated[
    float,
    Meta(
        ge=0,
        le=MAX_OVERLAP,
        description="Seconds for which the old key stays valid; 0 ends it at once.",
    ),
]


class RelayKeyRotation(msgspec.Struct):
    overlap_seconds: _OverlapSeconds = 0.0


class KeyRotation(msgspec.Struct):
    overlap_seconds: _OverlapSeconds = 0.0
    new_api_key: (
        Annotated[
            str,
            Meta(
                min_length=43,
                max_length=128,
                description="The key, where the node makes it itself: 256 random bits.",
                extra_json_schema={"pattern": f"^{_KEY}$"},
            ),
        ]
        | None
    ) = None


def require_key(body: msgspec.Struct, field: str) -> None:
    """Refuse an API key that cannot be 256 random bits in base64url; None passes.

    Raises:
        BodyError: the field is no such key.
    """
    key = getattr(body, field)
    if key is not None and re.fullmatch(_KEY, key) is None:
        raise BodyError(field, "must be 43 to 128 letters, digits, _ or -")


def new_api_key(kind: str, id: str) -> str:
    """Make an API key with 256 random bits; a relay's key also contains its id."""
    secret = secrets.token_urlsafe(32)
    return named_key(id, secret) if kind in (RELAY, ENROLMENT) else secret


def rfc3339(seconds: float) -> str:
    """Format a time, in seconds since the epoch, for responses."""
    moment = datetime.datetime.fromtimestamp(int(seconds), tz=datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def require_text(body: msgspec.Struct, *fields: str) -> None:
    """Validate text that becomes a label value; see contract.kinds.text_fault.

    Raises:
        BodyError: a field contains a forbidden character.
    """
    for field in fields:
        if fault := text_fault(getattr(body, field)):
            raise BodyError(field, fault)


def require_id(body: msgspec.Struct, *fields: str) -> None:
    """Validate ids; an omitted id (None) is accepted.

    Raises:
        BodyError: a field is not a valid id.
    """
    for field in fields:
        id = getattr(body, field)
        if id is not None and not is_id(id):
            raise BodyError(
                field,
                "must start with a letter or digit, and contain only letters, digits, . _ and -",
            )


def require_one_of(field: str, value: str, choices: dict[str, str]) -> str:
    """Return the value that `choices` maps `value` to.

    Raises:
        BodyError: `value` is not one of the choices.
    """
    if value not in choices:
        raise BodyError(field, "must be one of " + ", ".join(choices))
    return choices[value]
