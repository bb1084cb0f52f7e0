"""The reservoir: bounded, the newest stay, neighbours are neighbours, and states draw alike."""

import io
import re

import numpy as np
import pytest
import torch
from emuloss.errors import ArgumentError
from emuloss.training import reservoir as module
from emuloss.training.reservoir import Reservoir


def some(first: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Fields and curves that tell their number."""
    numbers = np.arange(first, first + number, dtype=np.float32)
    return np.tile(numbers[:, None, None], (1, 4, 5)), np.tile(numbers[:, None, None], (1, 2, 3))


def filled(capacity: int, rounds: int, kept: int = 3) -> Reservoir:
    """Rounds of two ways each."""
    reservoir = Reservoir(capacity)
    for k in range(rounds):
        reservoir.add(*some(2 * kept * k, 2 * kept), np.repeat([0, 1], kept))
    return reservoir


@pytest.mark.parametrize("capacity", [1, 4, 7, 12, 100])
def test_holds_the_newest_and_no_more(capacity):
    reservoir = Reservoir(capacity)
    assert len(reservoir) == 0
    for k in range(9):
        reservoir.add(*some(5 * k, 5))
        held = reservoir.state_dict()["fields"][:, 0, 0]
        assert len(reservoir) == len(held) == min(capacity, 5 * k + 5)
        assert held.tolist() == list(range(5 * k + 5 - len(held), 5 * k + 5))


def test_of_large_fields_it_holds_fewer(monkeypatch):
    monkeypatch.setattr(module, "_PIXELS", 6 * 4 * 5)
    made = Reservoir(100)
    made.add(*some(0, 5))
    made.add(*some(5, 5))
    assert made.state_dict()["fields"][:, 0, 0].tolist() == [4, 5, 6, 7, 8, 9]
    made.add(np.zeros((9, 40, 40)), np.zeros((9, 1, 1)))
    assert len(made) == 4  # however large they are


@pytest.mark.parametrize("capacity", [4, 7, 100])
@pytest.mark.parametrize("number", [1, 2, 9])
def test_neighbours_follow_one_another_on_one_way(capacity, number):
    reservoir = filled(capacity, rounds=6)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        drawn = reservoir.draw(number, rng)
        numbers = drawn.fields[:, 0, 0]
        assert torch.equal(drawn.curves[:, 0, 0], numbers)  # each with its own label
        assert len(numbers) == number
        assert drawn.neighbours.shape == (number // 2, 2)
        assert len(drawn.neighbours.unique()) == drawn.neighbours.numel()
        earlier, later = numbers[drawn.neighbours].long().T
        assert torch.equal(later, earlier + 1)
        assert torch.equal(later // 3, earlier // 3)
        seen |= set(earlier.tolist())
    pairs = {k for k in range(36 - min(capacity, 36), 35) if k // 3 == (k + 1) // 3}
    assert seen <= pairs
    assert number == 1 or len(seen) > len(pairs) / 2


def test_fields_on_no_way_have_no_neighbours():
    reservoir = Reservoir(8)
    reservoir.add(*some(0, 5))
    reservoir.add(*some(5, 3))
    drawn = reservoir.draw(6, np.random.default_rng(0))
    assert drawn.fields.shape == (6, 4, 5)
    assert drawn.neighbours.shape == (0, 2)


def test_fields_of_another_shape_begin_anew():
    reservoir = filled(8, 2)
    fields, curves = some(20, 3)
    for shaped, labels in ((fields[:, 1:], curves), (fields[:, 1:], curves[:, :1])):
        reservoir.add(fields, curves, [0, 0, 0])
        reservoir.add(shaped, labels, [0, 0, 1])
        assert len(reservoir) == 3
        drawn = reservoir.draw(20, np.random.default_rng(0))
        assert drawn.fields.shape[1:] == shaped.shape[1:]
        assert drawn.curves.shape[1:] == labels.shape[1:]
        assert set(drawn.fields[drawn.neighbours][..., 0, 0].flatten().tolist()) == {20, 21}


def test_to_draw_nothing_takes_no_random_numbers():
    rng = np.random.default_rng(0)
    drawn = filled(8, 2).draw(0, rng)
    assert [len(part) for part in drawn] == [0, 0, 0]
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_pairs_and_tensors_are_taken():
    reservoir = Reservoir(8)
    reservoir.add(
        torch.ones(2, 2, 4, 4, dtype=torch.float64, requires_grad=True), np.zeros((2, 1, 1)), [3, 3]
    )
    drawn = reservoir.draw(2, np.random.default_rng(0))
    assert drawn.fields.shape == (2, 2, 4, 4)
    assert drawn.fields.dtype == drawn.curves.dtype == torch.float32
    assert drawn.neighbours.tolist() == [[0, 1]]


def test_what_is_drawn_or_added_is_no_view():
    fields, curves = some(0, 4)
    reservoir = Reservoir(4)
    reservoir.add(fields, curves)
    fields[:] = 9
    reservoir.draw(3, np.random.default_rng(0)).fields.zero_()
    reservoir.state_dict()["curves"].zero_()
    assert reservoir.state_dict()["fields"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert reservoir.state_dict()["curves"][:, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_a_state_draws_and_goes_on_as_the_other_would_have(rounds):
    reservoir, again = filled(16, rounds), filled(16, 1)
    file = io.BytesIO()
    torch.save(reservoir.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    for held in (reservoir, again):
        held.add(*some(100, 6), [0, 0, 0, 1, 1, 1])
    for ours, theirs in zip(
        reservoir.draw(9, np.random.default_rng(1)), again.draw(9, np.random.default_rng(1)), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_smaller_reservoir_takes_the_newest_of_a_state():
    small = Reservoir(4)
    small.load_state_dict(filled(16, 2).state_dict())
    assert small.state_dict()["fields"][:, 0, 0].tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize(
    "change",
    [
        {"fields": 3},
        {"curves": torch.zeros(2, 2, 3)},
        {"ways": torch.zeros(3, dtype=torch.int64)},
        {"begun": 1},
        {"begun": None},
    ],
    ids=str,
)
def test_odd_states_are_refused_and_change_nothing(change):
    reservoir = filled(16, 2)
    before = reservoir.state_dict()
    with pytest.raises(ValueError, match="reservoir"):
        reservoir.load_state_dict(before | change)
    assert torch.equal(reservoir.state_dict()["fields"], before["fields"])


def test_odd_arguments_are_refused():
    reservoir = Reservoir(4)
    with pytest.raises(ArgumentError, match=r"^capacity must be"):
        Reservoir(0)
    with pytest.raises(ArgumentError, match=r"^an empty reservoir has no fields to draw; add some first$"):
        reservoir.draw(1, np.random.default_rng(0))
    fields, curves = some(0, 3)
    with pytest.raises(ArgumentError, match=re.escape("need as many curves")):
        reservoir.add(fields, curves[:2])
    with pytest.raises(ArgumentError, match=re.escape("need as many curves")):
        reservoir.add(fields, curves, [0, 0])
