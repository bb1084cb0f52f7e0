"""What tests share: seeds, and skipping what needs a GPU where there is none."""

import contextlib
import signal

import pytest
import torch

# Before xarray loads eccodes; see emuloss.foundation.xarrays.
with contextlib.suppress(ImportError):
    import pyproj  # noqa: F401

# A shell starts what it puts into the background with Ctrl-C ignored, nohup without hang-ups, and so would be
# all that tests start.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
