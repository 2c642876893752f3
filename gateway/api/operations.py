"""Descriptions of the API operations for the OpenAPI document."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from contract.kinds import KINDS
from contract.registry import RELAY
from gateway.api import bulk_registration, enrolment_schemas
from gateway.api import schemas as bodies
from gateway.api.listing import MAX_PAGE
from gateway.api.resource_types import ENROLMENTS, RESOURCES, Resource
from gateway.ingest import batch
from gateway.ingest.backfill import build_backfill_struct
from gateway.ingest.batch_decoder import build_item_struct
from gateway.ingest.decoder import SubmissionResponse
from gateway.ingest.schema import build_struct

ALWAYS_POSSIBLE_ERRORS = (401, 405, 503)
"""Errors of every endpoint that needs a credential and Kafka."""
BODY_ERRORS = (400, 408, 413, 415)


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query string."""

    name: str
    description: str
    schema: dict[str, object]


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    `credentials` are alternatives; an operation without credentials is public. The request body is
    one of `bodies`, or with `is_batch` an array (or lines) of them, or with `is_lines` lines of
    them, as the response then is. `is_packed` means that the body may be compressed. `response`
    is the struct of a 200 response; None if only docs/api.md describes it.
    """

    method: str
    path: str
    summary: str
    credentials: tuple[str, ...]
    errors: Sequence[int]
    bodies: tuple[type[msgspec.Struct], ...] = ()
    body_required: bool = True
    is_batch: bool = False
    is_lines: bool = False
    is_packed: bool = False
    response: type[msgspec.Struct] | None = None
    parameters: tuple[Parameter, ...] = ()


def operations() -> list[Operation]:
    """Return all operations under /api/v1, in the order of docs/api.md."""
    return [
        *_submissions(),
        *_batches(),
        *_registrations(),
        *(operation for resource in (*RESOURCES, ENROLMENTS) for operation in _entities(resource)),
        *_enrolments(),
        *_tokens(),
        *_certificates(),
        Operation("GET", "/api/v1/openapi.json", "This document", (), (405,)),
    ]


def _submissions() -> list[Operation]:
    return [
        Operation(
            "POST",
            f"/api/v1/{kind.collection}/{{{kind.id_label}}}/metrics",
            f"Submit metrics of a {kind.name}",
            (kind.credential, "certificate"),
            (
                *ALWAYS_POSSIBLE_ERRORS,
                *BODY_ERRORS,
                429,
                *([404] if kind.credential == "jwt" else []),
            ),
            bodies=(build_struct(kind), build_backfill_struct(kind)),
            is_packed=True,
            response=SubmissionResponse,
        )
        for kind in KINDS.values()
    ]


def _batches() -> list[Operation]:
    return [
        Operation(
            "POST",
            batch.PATH,
            "Submit metrics of many clients and headends",
            ("relay",),
            (*ALWAYS_POSSIBLE_ERRORS, *BODY_ERRORS, 429),
            bodies=tuple(build_item_struct(kind) for kind in KINDS.values()),
            is_batch=True,
            is_packed=True,
            response=batch.BatchResponse,
        )
    ]


def _registrations() -> list[Operation]:
    def register(
        collection: str, noun: str, body: type[msgspec.Struct], response: type[msgspec.Struct]
    ) -> Operation:
        return Operation(
            "POST",
            f"/api/v1/{collection}/register",
            f"Register a {noun}",
            ("admin",),
            (
                *ALWAYS_POSSIBLE_ERRORS,
                *BODY_ERRORS,
                403,
                409,
                429,
                *([501] if "csr" in body.__struct_fields__ else []),
            ),
            bodies=(body,),
            response=response,
        )

    return [
        register("clients", "client", bodies.ClientRegistration, bodies.ClientRegistered),
        register("clusters", "cluster", bodies.ClusterRegistration, bodies.ClusterRegistered),
        register("headends", "headend", bodies.HeadendRegistration, bodies.HeadendRegistered),
        register("relays", "relay", bodies.RelayRegistration, bodies.RelayRegistered),
        Operation(
            "POST",
            bulk_registration.PATH,
            "Register many",
            ("admin",),
            (*ALWAYS_POSSIBLE_ERRORS, *BODY_ERRORS, 429),
            bodies=(bulk_registration.BulkRegistration,),
            is_lines=True,
            is_packed=True,
            response=bulk_registration.BulkResult,
        ),
    ]


def _entities(resource: Resource) -> list[Operation]:
    base = f"/api/v1/{resource.path}"
    one = f"{base}/{{{resource.id_field}}}"
    filters = ("name", *resource.filters)
    found = [
        Operation(
            "GET",
            base,
            f"List {resource.path} by id",
            ("admin",),
            (*ALWAYS_POSSIBLE_ERRORS, 400, 429),
            parameters=(
                Parameter(
                    "limit",
                    "Maximum number of entries",
                    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE},
                ),
                Parameter("after", "The `next` of the previous page", {"type": "string"}),
                *(
                    Parameter(
                        field,
                        "Part of the name" if field == "name" else f"The {field}",
                        {"type": "string"},
                    )
                    for field in filters
                ),
            ),
        ),
        Operation(
            "GET",
            one,
            f"Show one of the {resource.path}",
            ("admin",),
            (*ALWAYS_POSSIBLE_ERRORS, 404, 429),
        ),
        Operation(
            "DELETE",
            one,
            "Revoke an enrolment"
            if resource is ENROLMENTS
            else f"Remove one of the {resource.path}, and its series",
            ("admin",),
            (*ALWAYS_POSSIBLE_ERRORS, 404, 409, 429),
        ),
    ]
    if resource.has_key:
        found.append(
            Operation(
                "POST",
                f"{one}/rotate-key",
                "Replace an API key",
                ("admin", "relay" if resource.kind == RELAY else "api_key"),
                (*ALWAYS_POSSIBLE_ERRORS, *BODY_ERRORS, 404, 409, 429),
                bodies=(bodies.RelayKeyRotation if resource.kind == RELAY else bodies.KeyRotation,),
                body_required=False,
            )
        )
    return found


def _enrolments() -> list[Operation]:
    return [
        Operation(
            "POST",
            f"/api/v1/{ENROLMENTS.path}",
            "Let agents register themselves",
            ("admin",),
            (*ALWAYS_POSSIBLE_ERRORS, *BODY_ERRORS, 403, 409, 429),
            bodies=(enrolment_schemas.EnrolmentCreation,),
            response=enrolment_schemas.EnrolmentCreated,
        ),
        Operation(
            "POST",
            "/api/v1/enrol",
            "Register oneself",
            ("enrolment",),
            (*ALWAYS_POSSIBLE_ERRORS, *BODY_ERRORS, 403, 409, 429, 501),
            bodies=(enrolment_schemas.Enrolling,),
            response=enrolment_schemas.Enrolled,
        ),
    ]


def _tokens() -> list[Operation]:
    keys = "/api/v1/auth/keys"
    return [
        Operation(
            "POST",
            "/api/v1/auth/token",
            "Get a token for an API key",
            (),
            (*ALWAYS_POSSIBLE_ERRORS, *BODY_ERRORS, 429),
            bodies=(bodies.TokenRequest,),
            response=bodies.TokenIssued,
        ),
        Operation(
            "POST",
            "/api/v1/auth/revoke",
            "Revoke a token, or all tokens of a node",
            ("admin", "api_key", "jwt"),
            (*ALWAYS_POSSIBLE_ERRORS, *BODY_ERRORS, 404, 409, 429),
            bodies=(bodies.Revocation,),
            response=bodies.Revoked,
        ),
        Operation(
            "GET",
            "/api/v1/auth/public-key",
            "The public key that verifies new tokens",
            (),
            (405, 503),
            response=bodies.PublicKey,
        ),
        Operation("GET", "/.well-known/jwks.json", "Public keys of valid tokens", (), (405,)),
        Operation("GET", keys, "List the signing keys", ("admin",), (*ALWAYS_POSSIBLE_ERRORS, 429)),
        Operation(
            "POST",
            f"{keys}/rotate",
            "Sign with a new key",
            ("admin",),
            (*ALWAYS_POSSIBLE_ERRORS, 409, 429),
            response=bodies.SigningKeyCreated,
        ),
        Operation(
            "DELETE",
            f"{keys}/{{kid}}",
            "Remove a signing key and invalidate its tokens",
            ("admin",),
            (*ALWAYS_POSSIBLE_ERRORS, 404, 409, 429),
        ),
    ]


def _certificates() -> list[Operation]:
    return [
        Operation(
            "POST",
            "/api/v1/certs/generate",
            "Get a certificate for a certificate request",
            ("admin", "api_key", "jwt", "certificate"),
            (*ALWAYS_POSSIBLE_ERRORS, *BODY_ERRORS, 404, 429, 501),
            bodies=(bodies.CertificateRequest,),
            response=bodies.CertificateIssued,
        ),
        Operation(
            "GET",
            "/api/v1/certs/ca",
            "The certificate of the CA",
            (),
            (405, 501),
            response=bodies.CaCertificate,
        ),
    ]
