from tobogganing.fleet_import.fleet_entry import SHOWN, BadLine, FleetEntry, Line, validate


def client(id: str) -> FleetEntry:
    return FleetEntry("client", id, "C", type="native")


def headend(id: str, cluster_id: str) -> FleetEntry:
    return FleetEntry("headend", id, "H", cluster_id=cluster_id)


def cluster(id: str) -> FleetEntry:
    return FleetEntry("cluster", id, "K", region="eu", datacenter="fra1")


def test_a_good_fleet_is_counted() -> None:
    found = validate(
        [(2, headend("h", "k")), (3, client("c")), (4, cluster("k")), (5, client("h"))]
    )
    assert found.counts == {"client": 2, "headend": 1, "cluster": 1}
    assert not found.invalid_count
    assert found.unknown_clusters == {}, "the cluster may come after its headend"


def test_a_repeated_id_is_a_bad_line() -> None:
    found = validate([(2, client("c")), (3, client("d")), (4, client("c"))])
    assert found.invalid_lines == [BadLine(4, "id: client:c is in line 2 already")]


def test_unknown_clusters_are_named_once() -> None:
    found = validate([(2, headend("h", "far")), (3, headend("i", "far")), (4, headend("j", "off"))])
    assert found.unknown_clusters == {"far": 2, "off": 4}


def test_every_bad_line_counts_and_the_first_are_shown() -> None:
    lines: list[Line] = [(n, client("-")) for n in range(100)]
    found = validate([BadLine(1, "is not CSV"), *lines])
    assert found.invalid_count == 101
    assert len(found.invalid_lines) == SHOWN
    assert found.invalid_lines[0] == BadLine(1, "is not CSV")
    assert found.invalid_lines[1].fault.startswith("id: ")
