"""`export nnUNet_extTrainer="$(python -m elsewhere.nnunet)"`: where nnU-Net finds `nnUNetTrainerDropGen`."""

from elsewhere.nnunet import TRAINERS

print(TRAINERS)
