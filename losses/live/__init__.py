"""Losses whose surrogate goes on learning beside the model that it judges."""

from __future__ import annotations

from .gauge import Gauge, GaugeWarning
from .live import LiveLoss
from .options import Live

__all__ = ["Gauge", "GaugeWarning", "Live", "LiveLoss"]
