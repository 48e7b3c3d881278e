"""Grey images and RGB images in one study: what is one channel, and what may stand beside three."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def one_grey_channel(image: NDArray[Any], n_files: int) -> NDArray[Any]:
    """Give the one channel of (C, *spatial) of a grey image saved as RGB, as many radiographs are; else `image`."""
    if n_files == 1 and len(image) == 3 and all(np.array_equal(image[0], other) for other in image[1:]):
        return image[:1]
    return image


def fits_as_grey(found: int, wanted: int, dims: int) -> bool:
    """Tell whether an image of one channel is a grey photograph among RGB ones: it is given its channel three times."""
    return found == 1 and wanted == 3 and dims == 2
