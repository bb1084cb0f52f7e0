"""Births and merges by torch operations: the same components at every threshold as by the kernel."""

import numpy as np
import pytest
import torch
from emuloss.emulators.soft.spanning_forest import component_changes
from emuloss.metrics.kernels.excursions import component_changes as by_kernel
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from skimage.measure import label


@pytest.mark.parametrize("diagonal", [False, True])
@settings(deadline=None, max_examples=60)
@given(
    npst.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(1, 6)),
    st.integers(0, 2**32 - 1),
)
def test_components_at_every_threshold(diagonal, field, seed):
    other = np.random.default_rng(seed).permuted(field)  # batches keep to themselves
    fields = np.stack([field, other])
    changes = component_changes(torch.from_numpy(fields), diagonal).numpy()
    for n, x in enumerate(fields):
        for u in np.unique(x):
            count = label(x >= u, connectivity=2 if diagonal else 1, return_num=True)[1]
            assert changes[n][x >= u].sum() == count


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_ties_pixels_change_as_by_the_kernel(diagonal, dtype):
    fields = (1 + torch.randperm(3 * 40 * 33, generator=torch.Generator().manual_seed(0))).view(3, 40, 33)
    found = component_changes(fields.to(dtype), diagonal)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, by_kernel(fields.to(dtype).numpy(), diagonal))


def test_a_comb_takes_many_merges():
    """Teeth of falling height on a low back: every round of the search joins some of them."""
    comb = torch.zeros(1, 64, 64) + 0.5
    comb[0, :-1, ::2] = torch.arange(32.0) + 2
    comb[0, -1] = 1.0
    changes = component_changes(comb, False)
    for u, count in ((1.5, 32), (1.0, 1), (0.5, 1), (20.0, 14)):
        assert changes[comb >= u].sum() == count
