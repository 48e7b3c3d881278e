"""nnU-Net v2: DropGen as one of its trainers (`pip install 'elsewhere[nnunet]'`).

`options` says what the trainer is asked for and what of it travels in nnU-Net's plans, `network` is what it trains,
`trainer` is nnU-Net's class. nnU-Net looks for trainers in folders; ours is `TRAINERS`.
"""

from __future__ import annotations

from pathlib import Path

TRAINERS = Path(__file__).with_name("trainers")
"""For nnU-Net's environment variable nnUNet_extTrainer; `python -m elsewhere.nnunet` prints it."""

__all__ = ["TRAINERS"]
