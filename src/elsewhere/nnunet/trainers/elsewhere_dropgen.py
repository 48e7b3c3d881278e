"""What nnU-Net finds; it drops this module again after the search, so the class lives elsewhere."""

from elsewhere.nnunet.trainer import nnUNetTrainerDropGen

__all__ = ["nnUNetTrainerDropGen"]
