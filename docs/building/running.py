"""What tutorials share when the site runs them, and their readers never see."""

import torch

STYLE = {
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "image.cmap": "Blues",
    "image.interpolation": "nearest",
}
"""How all pictures of the site look."""


def afresh(gallery_conf, fname) -> None:
    """Before each tutorial: the same seed and the same look."""
    import matplotlib

    matplotlib.rcParams.update(STYLE)
    torch.manual_seed(0)
