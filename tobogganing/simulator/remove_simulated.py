"""`tobogganing simulate --remove`: removes what simulations have registered."""

from typing import NoReturn

import click

from service.plural import counted
from tobogganing.api_client.target import ApiTarget
from tobogganing.fleet_import.fleet_entry import COLLECTIONS, FleetEntry
from tobogganing.fleet_import.remove_fleet import remove_entries
from tobogganing.simulator.simulated_fleet import is_simulated


def remove_simulated(api: ApiTarget, yes: bool) -> NoReturn:
    """Remove every entity with an id of a simulation, after a confirmation, and exit.

    Raises:
        LocalError: there is no ADMIN_TOKEN or no gateway.
    """
    entries = []
    with api.client() as client:
        for kind, collection in COLLECTIONS.items():
            for page in client.pages(f"/api/v1/{collection}", collection, {}):
                ids = (row[f"{kind}_id"] for row in page[collection])
                entries += [FleetEntry(kind, id, "") for id in ids if is_simulated(kind, id)]
    if entries and not yes:
        what = counted(len(entries), "simulated entity", "simulated entities")
        click.confirm(f"Remove {what} and their series?", abort=True, err=True)
    remove_entries(api, False, len(entries), lambda: entries)
