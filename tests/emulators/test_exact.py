"""Exact curves of tensors: the metric's own, whoever asks, and for copies as well."""

import copy
import gc
import pickle

import drawn
import emuloss
import pytest
import torch
from emuloss.emulators.exact import Teacher, exact_curves
from emuloss.errors import ArgumentError

FIELDS = drawn.rain(3, 12, 15)


def metric(**options):
    return emuloss.metric("minkowski", **{"thresholds": [0.3, 1.0]} | options)


def test_curves_are_the_metrics():
    wanted = torch.from_numpy(metric()(FIELDS.numpy()))
    for fields in (FIELDS, FIELDS[:, None], FIELDS.clone().requires_grad_(), FIELDS.double()):
        found = Teacher(metric())(fields)
        assert torch.equal(found, wanted)
        assert torch.equal(exact_curves(metric(), fields), wanted)
        assert not found.requires_grad


def test_curves_of_pairs():
    fss = emuloss.metric("fss", thresholds=[0.3], windows=[3])
    pairs = torch.stack([FIELDS, FIELDS.flip(1)], dim=1)
    wanted = fss(FIELDS.numpy(), FIELDS.flip(1).numpy())
    assert torch.equal(Teacher(fss)(pairs), torch.from_numpy(wanted))


def test_each_has_its_own_metric():
    first, second = Teacher(metric()), Teacher(metric(thresholds=[0.5], pixel_size=2.0))
    assert first(FIELDS).shape == (3, 3, 2)
    assert torch.equal(second(FIELDS), exact_curves(second.metric, FIELDS))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_copy_outlives_what_it_was_made_of(copied):
    teacher = Teacher(metric())
    wanted, twin = teacher(FIELDS), copied(teacher)
    assert twin.name != teacher.name
    del teacher
    gc.collect()
    assert torch.equal(twin(FIELDS), wanted)


def test_code_that_outlived_its_metric_says_so():
    teacher = Teacher(metric())
    name = teacher.name
    del teacher
    gc.collect()
    with pytest.raises(ArgumentError, match="outlived its metric, or is of another process"):
        torch.ops.emuloss.exact_curves(FIELDS, name, 3, 2)


def test_vmap():
    teacher, fields = Teacher(metric()), torch.stack([FIELDS, 2 * FIELDS])
    wanted = torch.stack([teacher(each) for each in fields])
    assert torch.equal(torch.func.vmap(teacher)(fields), wanted)
    loss = emuloss.relax(metric()).as_loss(forward="exact")
    found = torch.func.vmap(loss)(fields, fields.flip(2))
    assert torch.equal(found, torch.stack([loss(x, x.flip(1)) for x in fields]))
