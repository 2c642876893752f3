"""Kinds of registered entities as the command line sees them: columns, options, verbs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from contract.kinds import CLIENT, HEADEND, is_id, text_fault
from contract.registry import CLUSTER, ENROLMENT, RELAY
from tobogganing.cli import checkins
from tobogganing.cli.options import Command, Decorator, with_admin
from tobogganing.time_param import DurationParam


def check_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_id(value):
        raise click.BadParameter(
            "an id starts with a letter or digit, followed by letters, digits or . _ - "
            "(128 characters at most)"
        )
    return value


def check_ids(_: click.Context, __: click.Parameter, values: Sequence[str]) -> Sequence[str]:
    for value in values:
        check_id(_, __, value)
    return values


def check_text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and (fault := text_fault(value)):
        raise click.BadParameter(fault)
    return value


def scope_of(
    _: click.Context | None, __: click.Parameter | None, values: Sequence[str]
) -> str | list[str]:
    """The scope of a relay as the API expects it."""
    return "all" if list(values) == ["all"] else list(values)


def option(name: str, help: str, *, required: bool = False, id: bool = False) -> Decorator:
    check = check_id if id else check_text
    return click.option(f"--{name}", required=required, default=None, callback=check, help=help)


def enrolment_body(options: dict[str, Any]) -> dict[str, Any]:
    """The body of the request that creates an enrolment.

    Raises:
        click.UsageError: the options do not specify the kind of its agents.
    """
    if ("type" in options) is ("cluster_id" in options):
        raise click.UsageError("say --type for clients, or --cluster-id for headends")
    return options | {"kind": CLIENT.name if "type" in options else HEADEND.name}


id_argument = click.argument("id", callback=check_id)


@dataclass(frozen=True)
class ResourceSpec:
    """A kind of registered entity. `columns` are those of a list; the first is the id.

    `add_command` and `remove_command` are verbs. `body` makes the body of a request to `add_path`
    from the options that were given.
    """

    kind: str
    collection: str
    columns: tuple[str, ...]
    add: tuple[Decorator, ...]
    """Options of `add`."""
    filters: tuple[Decorator, ...]
    """Options of `list`."""
    has_key: bool = True
    add_command: str = "add"
    add_path: str = "/register"
    remove_command: str = "remove"
    body: Callable[[dict[str, Any]], dict[str, Any]] = dict

    @property
    def noun(self) -> str:
        """One of them, with its article."""
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"

    @property
    def has_checkins(self) -> bool:
        return self.collection in checkins.COLUMNS

    @property
    def path(self) -> str:
        return f"/api/v1/{self.collection}"


_TYPES = click.Choice(CLIENT.types)
_REGION = option("region", "Only those of this region.")
_DATACENTER = option("datacenter", "Only those of this data center.")
_ENROLLED = option("enrolment-id", "Only those that enrolled with this enrolment.", id=True)

RESOURCE_SPECS = (
    ResourceSpec(
        CLIENT.name,
        CLIENT.collection,
        (CLIENT.id_label, "name", "type", "old_keys_valid_until"),
        add=(click.option("--type", required=True, type=_TYPES, help="Its platform."),),
        filters=(
            click.option("--type", default=None, type=_TYPES, help="Only those of this type."),
            _ENROLLED,
        ),
    ),
    ResourceSpec(
        HEADEND.name,
        HEADEND.collection,
        (HEADEND.id_label, "name", "cluster_id", "region", "datacenter", "old_keys_valid_until"),
        add=(option("cluster-id", "Its cluster.", required=True, id=True),),
        filters=(
            option("cluster-id", "Only those of this cluster.", id=True),
            _REGION,
            _DATACENTER,
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
            click.option("--headend-url", default=None, help="URL of its headends."),
        ),
        filters=(_REGION, _DATACENTER),
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
                help="An entity that it submits for; repeatable; or `all`.",
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
            click.option(
                "--type", default=None, type=_TYPES, help="Its agents are clients of this type."
            ),
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
                help="Lifetime, for example 12h or 7d. Default: until it is revoked.",
            ),
            option("id-prefix", "Prefix of the ids of its agents.", id=True),
        ),
        filters=(),
        has_key=False,
        add_command="create",
        add_path="",
        remove_command="revoke",
        body=enrolment_body,
    ),
)


def resource_command(
    name: str, help: str, callback: Command, *parameters: Decorator
) -> click.Command:
    """Return a command that takes the address, the token of an administrator, and `parameters`."""
    for decorate in (with_admin, *reversed(parameters)):
        callback = decorate(callback)
    return click.command(name, help=help)(callback)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}
