from tobogganing.commands.checking import SHOWN, check
from tobogganing.commands.entry import Entry
from tobogganing.commands.files import BadLine, Line


def client(id: str) -> Entry:
    return Entry("client", id, "C", type="native")


def headend(id: str, cluster_id: str) -> Entry:
    return Entry("headend", id, "H", cluster_id=cluster_id)


def cluster(id: str) -> Entry:
    return Entry("cluster", id, "K", region="eu", datacenter="fra1")


def test_a_good_fleet_is_counted() -> None:
    found = check([(2, headend("h", "k")), (3, client("c")), (4, cluster("k")), (5, client("h"))])
    assert found.counts == {"client": 2, "headend": 1, "cluster": 1}
    assert not found.bad_count
    assert found.foreign == {}, "the cluster may come after its headend"


def test_a_second_line_of_an_id_is_bad() -> None:
    found = check([(2, client("c")), (3, client("d")), (4, client("c"))])
    assert found.bad == [BadLine(4, "id: client:c is in line 2 already")]


def test_clusters_that_are_elsewhere_are_named_once() -> None:
    found = check([(2, headend("h", "far")), (3, headend("i", "far")), (4, headend("j", "off"))])
    assert found.foreign == {"far": 2, "off": 4}


def test_every_bad_line_counts_and_the_first_are_shown() -> None:
    lines: list[Line] = [(n, client("-")) for n in range(100)]
    found = check([BadLine(1, "is no CSV"), *lines])
    assert found.bad_count == 101
    assert len(found.bad) == SHOWN
    assert found.bad[0] == BadLine(1, "is no CSV")
    assert found.bad[1].fault.startswith("id: ")
