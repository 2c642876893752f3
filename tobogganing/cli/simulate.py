"""`tobogganing simulate`: a simulated fleet."""

import click

from tobogganing.api_client.target import ApiTarget
from tobogganing.cli.options import token_option, url_option, yes_option


@click.command()
@url_option
@click.option("--clients", default=100, show_default=True, type=click.IntRange(min=0))
@click.option("--headends", default=5, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--interval",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds between two submissions of one entity.",
)
@click.option(
    "--duration",
    default=None,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds to run. Default: until Ctrl-C.",
)
@click.option("--seed", default=None, type=int, help="Simulate the same fleet again.")
@click.option(
    "--remove", is_flag=True, help="Instead, remove all that simulations have registered."
)
@yes_option
@token_option("ADMIN_TOKEN")
def simulate(
    url: str,
    clients: int,
    headends: int,
    interval: float,
    duration: float | None,
    seed: int | None,
    remove: bool,
    yes: bool,
    admin_token_file: str | None,
) -> None:
    """Register a simulated fleet and submit for it.

    With --remove, remove the clients, headends and clusters with ids of simulations (sim-client-…)
    and their series, after a confirmation.
    """
    from tobogganing.simulator.remove_simulated import remove_simulated
    from tobogganing.simulator.simulate import main

    api = ApiTarget(url, admin_token_file)
    if remove:
        remove_simulated(api, yes)
    main(api, clients, headends, interval, duration, seed)
