"""What was used last stays, within a bound."""

from layerfs.pysquashfs.recent import Recent


def test_the_least_recently_used_goes_first() -> None:
    kept: Recent[str, int] = Recent(3)
    for name in "abc":
        kept.put(name, 1)
    assert kept.get("a") == 1
    kept.put("d", 1)
    assert (list(kept), len(kept), "b" in kept, kept.get("b")) == (["c", "a", "d"], 3, False, None)


def test_the_bound_is_in_weight_and_a_heavy_value_is_kept_alone() -> None:
    kept: Recent[str, bytes] = Recent(10, len)
    kept.put("a", bytes(4))
    kept.put("b", bytes(6))
    assert kept.weight == 10
    kept.put("a", bytes(5))
    assert (list(kept), kept.weight) == (["a"], 5)
    kept.put("c", bytes(50))
    assert (list(kept), kept.weight) == (["c"], 50)
    kept.put("d", b"")
    kept.drop("c")
    kept.drop("c")
    assert (list(kept), kept.weight) == (["d"], 0)


def test_values_are_let_go_of_once_unless_they_are_taken() -> None:
    gone: list[int] = []
    kept: Recent[str, int] = Recent(2, let_go=gone.append)
    for number, name in enumerate("abac", start=1):
        kept.put(name, number)
    assert gone == [1, 2]
    kept.drop("c")
    assert (gone, kept.take_all(), len(kept), kept.weight) == ([1, 2, 4], [3], 0, 0)
    kept.put("d", 5)
    kept.drop_all()
    assert (gone, len(kept), kept.weight) == ([1, 2, 4, 5], 0, 0)
