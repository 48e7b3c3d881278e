"""`nnUNetTrainerDropGen`: nnU-Net v2, trained with DropGen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    nnUNetTrainer,
)
from nnunetv2.utilities.plans_handling.plans_handler import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    PlansManager,
)
from torch import nn

from elsewhere.networks import stable
from elsewhere.nnunet.network import DropGenNetwork, build
from elsewhere.nnunet.options import KEY, check_alike, chosen, record, record_of


class nnUNetTrainerDropGen(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer, with stable features beside the image and dropout of channels (`methods.dropgen`).

    Plans, augmentation, loss, deep supervision, schedule and prediction are nnU-Net's. What was asked for is written
    into the plans of the model's folder under the key "elsewhere", so that prediction builds the same network and needs
    neither the options nor the extractor's file.

    Attributes:
        dropgen: options, where they differ from the defaults of the method; a subclass sets its own. Environment
            variables (ELSEWHERE_EXTRACTOR, ELSEWHERE_P, ...) go before them.

    Raises:
        SettingsError: see `options.chosen`, `options.check_alike` and `stable.build`.
        ModelError: the extractor's weights cannot be had.
    """

    dropgen: ClassVar[Mapping[str, Any]] = {}

    # nnU-Net saves the arguments by the names that it reads off this signature, so they cannot be *args.
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        options = chosen(type(self).dropgen, os.environ)
        dims = len(PlansManager(plans).get_configuration(configuration).patch_size)
        own = stable.own_options(options["extractor_options"])
        self.extractor = stable.build(options["extractor"], dims, weights=options["weights"] or None, **own)
        plans[KEY] = record(options, self.extractor)
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.output_folder_base is not None:
            check_alike(Path(self.output_folder_base), plans[KEY])
        self.print_to_log_file(f"DropGen: {plans[KEY]}", also_print_to_console=True, add_timestamp=False)

    def initialize(self) -> None:
        """As nnU-Net does, then the extractor's weights: `build_network_architecture` has its layout alone."""
        super().initialize()
        plain(self.network).stable.extractor.load_state_dict(self.extractor.state_dict())

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The network of a model, in training and in prediction, with weights that are not loaded yet.

        A class method, so that the network inside is that of whichever trainer comes next among the bases.
        """

        def make(channels: int) -> nn.Module:
            network: nn.Module = super(nnUNetTrainerDropGen, cls).build_network_architecture(
                plans_manager, configuration_manager, channels, num_output_channels, enable_deep_supervision
            )
            return network

        dims = len(configuration_manager.patch_size)
        images = len(configuration_manager.normalization_schemes)  # one for each channel of the image
        return build(record_of(plans_manager.plans), dims, images, num_input_channels, make)


def plain(network: Any) -> DropGenNetwork:
    """What is inside the wrappers of several GPUs and of torch.compile."""
    for wrapped in ("module", "_orig_mod"):
        network = getattr(network, wrapped, network)
    inner: DropGenNetwork = network
    return inner
