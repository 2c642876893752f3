"""What the commands over the API may name: kinds of what is registered, and their options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from contract.kinds import CLIENT, HEADEND, is_id, text_fault
from contract.registry import CLUSTER, ENROLMENT, RELAY
from tobogganing.time_param import DurationParam

Option = Callable[[Callable[..., None]], Callable[..., None]]


def id_of(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_id(value):
        raise click.BadParameter(
            "an id begins with a letter or digit and goes on with those or . _ - (128 at most)"
        )
    return value


def ids_of(_: click.Context, __: click.Parameter, values: Sequence[str]) -> Sequence[str]:
    for value in values:
        id_of(_, __, value)
    return values


def text_of(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and (fault := text_fault(value)):
        raise click.BadParameter(fault)
    return value


def option(name: str, help: str, *, required: bool = False, id: bool = False) -> Option:
    return click.option(
        f"--{name}", required=required, default=None, callback=id_of if id else text_of, help=help
    )


def scope_of(
    _: click.Context | None, __: click.Parameter | None, values: Sequence[str]
) -> str | list[str]:
    """What a relay may submit for, as the API has it."""
    return "all" if list(values) == ["all"] else list(values)


def enrolment_body(options: dict[str, Any]) -> dict[str, Any]:
    """What the API takes of an enrolment's options.

    Raises:
        click.UsageError: they do not say what its agents are.
    """
    if ("type" in options) is ("cluster_id" in options):
        raise click.UsageError("say --type for clients, or --cluster-id for headends")
    return options | {"kind": CLIENT.name if "type" in options else HEADEND.name}


@dataclass(frozen=True)
class ResourceSpec:
    """A kind of what is registered. `columns` are a listing's; the id comes first.

    `add_command` and `remove_command` are verbs. `body` makes the body of a request to `add_path`
    from the options that were given.
    """

    kind: str
    collection: str
    columns: tuple[str, ...]
    add: tuple[Option, ...]
    filters: tuple[Option, ...]
    has_key: bool = True
    add_command: str = "add"
    add_path: str = "/register"
    remove_command: str = "remove"
    body: Callable[[dict[str, Any]], dict[str, Any]] = dict

    @property
    def id_field(self) -> str:
        return self.columns[0]

    @property
    def noun(self) -> str:
        """One of them, with its article."""
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"

    @property
    def path(self) -> str:
        return f"/api/v1/{self.collection}"


_TYPES = click.Choice(CLIENT.types)
_ENROLLED = option("enrolment-id", "Those that enrolled with it.", id=True)

RESOURCE_SPECS = (
    ResourceSpec(
        CLIENT.name,
        CLIENT.collection,
        (CLIENT.id_label, "name", "type", "old_keys_valid_until"),
        add=(click.option("--type", required=True, type=_TYPES, help="What it runs on."),),
        filters=(
            click.option("--type", default=None, type=_TYPES, help="Those of this type."),
            _ENROLLED,
        ),
    ),
    ResourceSpec(
        HEADEND.name,
        HEADEND.collection,
        (
            HEADEND.id_label,
            "name",
            "cluster_id",
            "region",
            "datacenter",
            "old_keys_valid_until",
        ),
        add=(option("cluster-id", "The cluster that it belongs to.", required=True, id=True),),
        filters=(
            option("cluster-id", "Those of this cluster.", id=True),
            option("region", "Those of this region."),
            option("datacenter", "Those of this datacenter."),
            _ENROLLED,
        ),
    ),
    ResourceSpec(
        CLUSTER,
        "clusters",
        ("cluster_id", "name", "region", "datacenter", "headends", "headend_url"),
        add=(
            option("region", "Label of its headends.", required=True),
            option("datacenter", "Label of its headends.", required=True),
            click.option("--headend-url", default=None, help="Where its headends are reached."),
        ),
        filters=(
            option("region", "Those of this region."),
            option("datacenter", "Those of this datacenter."),
        ),
        has_key=False,
    ),
    ResourceSpec(
        RELAY,
        "relays",
        ("relay_id", "name", "scope", "old_keys_valid_until"),
        add=(
            click.option(
                "--scope",
                required=True,
                multiple=True,
                callback=scope_of,
                metavar="ID",
                help="Whom it submits for; again for each, or `all`.",
            ),
        ),
        filters=(),
    ),
    ResourceSpec(
        ENROLMENT,
        "enrolments",
        (
            *("enrolment_id", "name", "kind", "state", "uses", "max_uses", "last_used_at"),
            *("expires_at", "id_prefix"),
        ),
        add=(
            click.option("--type", default=None, type=_TYPES, help="Its agents are such clients."),
            option("cluster-id", "Its agents are headends of this cluster.", id=True),
            click.option(
                "--max-uses",
                default=None,
                type=click.IntRange(1, 1_000_000),
                help="Agents that may register. Default: any number.",
            ),
            click.option(
                "--expires-in",
                "expires_in_seconds",
                default=None,
                type=DurationParam(),
                help="When it ends, as 12h or 7d. Default: when it is revoked.",
            ),
            option("id-prefix", "Ids of its agents begin with it.", id=True),
        ),
        filters=(),
        has_key=False,
        add_command="create",
        add_path="",
        remove_command="revoke",
        body=enrolment_body,
    ),
)
