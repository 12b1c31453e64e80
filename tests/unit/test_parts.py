"""How the objects of an output are shared among the parts of a load."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_personalize.s3.objects import StoredObject, part_of


@given(st.lists(st.integers(0, 10**9), max_size=40), st.integers(1, 9), st.randoms(use_true_random=False))
def test_each_object_is_in_one_part_and_no_part_is_much_larger_than_it_has_to_be(sizes, parts, order):
    objects = [StoredObject(f"s3://bucket/{number:03}.out", size) for number, size in enumerate(sizes)]
    listed = order.sample(objects, len(objects))
    shares = [part_of(listed, part, parts) for part in range(parts)]
    assert sorted(item.uri for share in shares for item in share) == [item.uri for item in objects]
    assert all(set(share) == set(part_of(objects, part, parts)) for part, share in enumerate(shares))
    totals = [sum(max(item.size, 1) for item in share) for share in shares]
    # A part is given an object only while it has the least, and then no part has more than its share.
    assert all(total <= sum(totals) / parts + max([1, *sizes]) for total in totals)
