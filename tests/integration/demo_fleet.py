"""A fleet in every state, registered and submitted through the API."""

import time
from dataclasses import dataclass
from typing import Any

from tests.integration.processes import ADMIN_TOKEN, Service

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
HOSTILE = "<script>alert(1)</script>"
RIGHT_TO_LEFT = "invoice\N{RIGHT-TO-LEFT OVERRIDE}fdp.exe"
SITES = (
    ("fra1", "Frankfurt edge", "eu-central", "fra1"),
    ("ams2", "Amsterdam edge", "eu-west", "ams2"),
    ("nyc3", "New York edge", "us-east", "nyc3"),
)
PEOPLE = (
    *("Amara", "Benoît", "Chiara", "Dmitri", "Elif", "Fatima", "Grace", "Hiroshi", "Ingrid"),
    *("Jonas", "Katarzyna", "Liam", "Mariana", "Nadia", "Oluwaseun", "Priya", "Rafael", "Sofia"),
)
ONLINE, LATE, OFFLINE = 20, 400, 5400
"""Ages of check-ins in seconds."""


@dataclass
class Demo:
    """The registered fleet, and the key of one client that has not reported."""

    clients: int
    new_client: str
    new_key: str


async def register(service: Service, collection: str, **body: Any) -> dict[str, Any]:
    response = await service.http.post(f"/api/v1/{collection}/register", json=body, headers=ADMIN)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def create_fleet(service: Service) -> Demo:
    """Register clusters, headends and clients, and submit for all but one."""
    items: list[dict[str, Any]] = []
    for cluster, name, region, datacenter in SITES:
        await register(
            service, "clusters", name=name, cluster_id=cluster, region=region, datacenter=datacenter
        )
        for number in range(1, 5):
            id = f"headend-{cluster}-{number}"
            await register(
                service, "headends", name=f"{name} {number}", headend_id=id, cluster_id=cluster
            )
            age = OFFLINE if cluster == "fra1" and number < 4 else 10 * number
            items.append(_item("headend", id, age, cpu_usage=11.5 * number, memory_usage=2 << 30))
            items[-1]["metrics"] |= {"active_connections": 180 * number}
    names = [HOSTILE, RIGHT_TO_LEFT]
    for number, person in enumerate(PEOPLE):
        names += [f"{person}'s laptop", f"{person}'s phone"] if number % 3 else [f"{person} build"]
    for number, name in enumerate(names):
        id = f"c-{number:04}"
        type = "docker" if "build" in name else "mobile" if "phone" in name else "native"
        await register(service, "clients", name=name, type=type, client_id=id)
        age = OFFLINE + 60 * number if number % 11 == 0 else LATE if number % 7 == 0 else ONLINE
        item = _item("client", id, age, bytes_sent=91_000_000 * number, bytes_received=2 * 10**9)
        item |= {"headless": type == "docker"}
        item["metrics"]["connection_uptime"] = 3600.0 * number
        items.append(item)
    relay = await register(service, "relays", name="demo", scope="all")
    earlier = [_earlier(item) for item in items if "bytes_sent" in item["metrics"]]
    for reports in (earlier, items):
        response = await service.http.post(
            "/api/v1/metrics",
            json=reports,
            headers={"authorization": f"Bearer {relay['api_key']}"},
        )
        assert response.status_code == 200, response.text
        assert response.json()["rejected"] == [], response.text
        assert (await service.scrape(*response.json()["receipts"])).status_code == 200
    new = await register(service, "clients", name="Zoë's tablet", type="mobile", client_id="c-new")
    return Demo(len(names) + 1, "c-new", new["api_key"])


def _earlier(item: dict[str, Any]) -> dict[str, Any]:
    """The report of the previous minute."""
    counted = {"bytes_sent": 2**21, "bytes_received": 2**25, "connection_uptime": 60}
    metrics = {name: max(0, item["metrics"][name] - grown) for name, grown in counted.items()}
    return item | {"timestamp": item["timestamp"] - 60, "metrics": metrics}


def _item(kind: str, id: str, age: float, **metrics: float) -> dict[str, Any]:
    return {"kind": kind, "id": id, "timestamp": time.time() - age, "metrics": metrics}
