"""A metric in plain Python, which other processes can import: it may refuse fields, wait, or die."""

import os
import time

from emuloss.errors import FieldError
from emuloss.metrics import Metric


class Wetness(Metric):
    """Share of wet pixels; in small batches, which are those of descents, it may fail, or wait for a file."""

    name = "wetness"
    outputs, units, constraints = ("wetness",), ("1",), ()
    thresholds, levels, pixel_size = (0.5,), (0.5,), 1.0
    parallel = "processes"

    def __init__(self, does="", waits_for=""):
        super().__init__()
        self.does, self.waits_for = does, waits_for

    def arguments(self):
        return {"does": self.does, "waits_for": self.waits_for}

    def _compute(self, fields):
        if len(fields) < 9:
            while self.waits_for and not os.path.exists(self.waits_for):
                time.sleep(0.01)
            if self.does == "refuse":
                raise FieldError(0, "wetness raised ValueError: too wet")
            if self.does == "die":
                os._exit(1)
        return (fields >= 0.5).mean((1, 2))[:, None, None]
