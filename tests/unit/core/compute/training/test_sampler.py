import numpy as np
import pytest
from scipy import stats

from core.compute.training.sampler import ResumableSampler, balanced_weights
from core.domain.errors import InputError, SafetyError


def drawn(sampler: ResumableSampler) -> list[int]:
    return [draw.case for draw in sampler]


def test_each_case_is_drawn_once_an_epoch_and_in_another_order_the_next():
    sampler = ResumableSampler(50, seed=3)
    first = drawn(sampler)
    sampler.end_epoch()
    second = drawn(sampler)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_the_order_depends_on_seed_and_epoch_alone():
    one, other = ResumableSampler(20, seed=3), ResumableSampler(20, seed=3)
    drawn(one)
    other.set_epoch(7)
    one.set_epoch(7)
    assert drawn(one) == drawn(other)
    assert drawn(one) != drawn(ResumableSampler(20, seed=4))


def test_repeats_use_up_a_permutation_before_the_next_and_are_numbered():
    draws = list(ResumableSampler(6, seed=1, length=18))
    for number in range(3):
        part = draws[6 * number : 6 * number + 6]
        assert sorted(draw.case for draw in part) == list(range(6))
        assert {draw.occurrence for draw in part} == {number}


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 1.0, 4.0, 1.0, 1.0, 1.0]])
def test_two_ranks_see_what_one_process_sees_with_twice_the_batch(weights):
    batch, length = 3, 24
    ranks = [list(ResumableSampler(7, 9, weights, rank, 2, length=length)) for rank in (0, 1)]
    one = list(ResumableSampler(7, 9, weights, length=length))
    for step in range(length // (2 * batch)):
        together = [draw for rank in ranks for draw in rank[step * batch : (step + 1) * batch]]
        assert sorted(together) == sorted(one[step * 2 * batch : (step + 1) * 2 * batch])


def test_ranks_get_equally_many_draws_when_they_do_not_divide_the_cases():
    ranks = [ResumableSampler(7, 1, rank=rank, world=3) for rank in range(3)]
    indices = [drawn(rank) for rank in ranks]
    assert [len(i) for i in indices] == [3, 3, 3] == [len(rank) for rank in ranks]
    assert set().union(*indices) == set(range(7))


def test_a_state_is_continued_exactly():
    sampler = ResumableSampler(31, seed=8)
    sampler.set_epoch(4)
    whole = list(sampler)
    sampler.advance(12)
    restored = ResumableSampler(31, seed=8)
    restored.load_state_dict(sampler.state_dict())
    assert list(restored) == whole[12:]


def test_a_state_of_two_ranks_is_continued_by_both():
    ranks = [ResumableSampler(32, 8, rank=rank, world=2) for rank in (0, 1)]
    wholes = [list(rank) for rank in ranks]
    for rank in ranks:
        rank.advance(5)
    assert ranks[0].state_dict() == ranks[1].state_dict()
    for number, whole in enumerate(wholes):
        restored = ResumableSampler(32, 8, rank=number, world=2)
        restored.load_state_dict(ranks[0].state_dict())
        assert list(restored) == whole[5:]


def test_going_to_the_same_epoch_keeps_the_position_and_another_one_begins_anew():
    sampler = ResumableSampler(10, seed=1)
    sampler.advance(4)
    sampler.set_epoch(0)
    assert sampler.cursor == 4
    sampler.set_epoch(1)
    assert sampler.cursor == 0


@pytest.mark.parametrize("other", [ResumableSampler(10, seed=2), ResumableSampler(11, seed=1)])
def test_a_state_of_other_data_is_refused(other):
    with pytest.raises(SafetyError) as refused:
        other.load_state_dict(ResumableSampler(10, seed=1).state_dict())
    assert refused.value.code == "training.resume_data"


def test_balanced_weights_draw_rare_classes_as_often_as_common_ones():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    sampler = ResumableSampler(1000, 5, balanced_weights(labels), length=9000)
    counts = np.bincount(labels[drawn(sampler)], minlength=3)
    assert stats.chisquare(counts).pvalue > 0.001
    # A uniform draw of the same size is told apart by the same test.
    uniform = np.bincount(labels[drawn(ResumableSampler(1000, 5, length=9000))], minlength=3)
    assert stats.chisquare(uniform).pvalue < 1e-6


def test_weights_are_the_frequencies():
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    counts = np.bincount(drawn(ResumableSampler(4, 2, weights, length=8000)), minlength=4)
    assert stats.chisquare(counts, 8000 * weights / weights.sum()).pvalue > 0.001


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InputError, match="weights"):
        ResumableSampler(2, 0, weights)


def test_without_shuffling_each_epoch_is_the_same():
    sampler = ResumableSampler(5, seed=1, shuffle=False)
    first = list(sampler)
    sampler.end_epoch()
    assert list(sampler) == first
    assert [draw.case for draw in first] == [0, 1, 2, 3, 4]
