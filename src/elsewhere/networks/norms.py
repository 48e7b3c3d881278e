"""The choice of normalisation, in MONAI's terms."""

from __future__ import annotations

from typing import Any

from elsewhere.errors import SettingsError

NORMS: dict[str, tuple[str, dict[str, Any]]] = {"instance": ("INSTANCE", {"affine": True}), "batch": ("BATCH", {})}


def norm_layer(network: str, norm: str) -> tuple[str, dict[str, Any]]:
    """MONAI's description of "instance" (with learnt scale and shift) or "batch".

    Raises:
        SettingsError: another word.
    """
    if norm not in NORMS:
        raise SettingsError(f"network {network}: norm must be one of {', '.join(NORMS)}, found {norm!r}")
    return NORMS[norm]
