"""Real images that come with a package: solar cells, good and defective.

The cells are the ELPV set (Buerhop-Lutz et al. 2018; Deitsch et al. 2019), from the PyPI package `elpv-dataset`:
electroluminescence images, 300 x 300, grey, each with a probability of being defective judged by experts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unlike.errors import ConfigError
from unlike.records import Floats, Pixels


def load_cells() -> tuple[Pixels, Floats, npt.NDArray[np.str_]]:
    """Images (2624, 300, 300) uint8, defect probabilities (2624,), and "mono" or "poly" (2624,)."""
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError:
        raise ConfigError("the solar cells are not installed: pip install 'unlike[demo]'") from None
    cells, probability, kind = load_dataset()
    return cells, np.asarray(probability), np.asarray(kind)
