"""All faults by name, in the order in which they are caused."""

import signal

from tests.chaos import (
    clocks,
    crashes,
    deletions,
    disk_faults,
    freezes,
    network_faults,
    outages,
    pairs,
    poison,
    power_cuts,
    raise_rounds,
    removals,
)
from tests.chaos.context import Fault

FAULTS: dict[str, Fault] = {
    "gateway-kill": crashes.ends("gateways", signal.SIGKILL),
    "gateway-term": crashes.ends("gateways", signal.SIGTERM),
    "worker-kill": crashes.ends("workers", signal.SIGKILL),
    "worker-term": crashes.ends("workers", signal.SIGTERM),
    "exporter-kill": crashes.ends("exporters", signal.SIGKILL),
    "exporter-term": crashes.ends("exporters", signal.SIGTERM),
    "worker-rolling": crashes.rolls("workers"),
    "service-rolling": crashes.rolls("exporters", "workers", "gateways"),
    "worker-joins": crashes.worker_joins_and_leaves,
    "leader-kill": outages.leader_killed,
    "controller-kill": outages.controller_killed,
    "worker-and-leader-kill": crashes.worker_and_leader,
    "broker-rolling": outages.brokers_roll,
    "two-brokers-down": outages.two_brokers_down,
    "all-brokers-down": outages.all_brokers_down,
    "worker-freeze": freezes.worker_frozen,
    "broker-freeze": freezes.broker_frozen,
    "gateway-freeze": freezes.gateway_frozen,
    "exporter-freeze": freezes.exporter_frozen,
    "worker-disk-full": disk_faults.worker_disk_full,
    "broker-disk-full": disk_faults.broker_disk_full,
    "gateway-clock": clocks.gateway_clock_jumps,
    "slow-network": network_faults.slow_network,
    "held-network": network_faults.held_network,
    "cut-network": network_faults.cut_network,
    "client-resets": network_faults.resets,
    "corrupt-frames": poison.corrupt_frames,
    "zombie-rows": poison.zombie_rows,
    "broker-power-cut": power_cuts.broker_power_cut,
    "broker-clock": clocks.broker_clock_jumps,
    "records-deleted": deletions.records_deleted_unread,
    "entities-removed": removals.entities_removed,
    "agent-raises": raise_rounds.agent_raises,
}


def named(name: str) -> Fault:
    """Return the fault of this name, or a pair such as `cut-network+broker-freeze`."""
    return pairs.named(name, FAULTS.__getitem__)


def unknown(names: list[str]) -> list[str]:
    """Return the names that are no fault, alone or in a pair."""
    known = FAULTS.keys()
    return sorted({part for name in names for part in name.split(pairs.SIGN)} - known)
