"""How a site makes an image of an anatomy: mechanisms with explicit parameters, and scanners that chain them."""

from elsewhere.acquisition.anatomy import Anatomy, GivenLabels, Lesion, NestedOrgans, Organ, grow_lesion, render
from elsewhere.acquisition.anatomy_shapes import smooth_noise, smooth_shapes
from elsewhere.acquisition.blur import GaussianBlur, gaussian_blur
from elsewhere.acquisition.colour import ColourJitter, Stain, colour_jitter, stain
from elsewhere.acquisition.contrast import Curve, Gamma, Invert, Linear, curve, gamma, invert, linear
from elsewhere.acquisition.fourier import AmplitudeMix, amplitude_mix
from elsewhere.acquisition.geometry import Moved, Spatial, affine, crop, elastic, flip
from elsewhere.acquisition.geometry_patches import cut, foreground_index, patch_origin
from elsewhere.acquisition.gin import GIN, random_network
from elsewhere.acquisition.illumination import (
    BiasField,
    Illumination,
    Specular,
    Vignette,
    bias_field,
    specular,
    uneven_light,
    vignette,
)
from elsewhere.acquisition.kspace import Ghosting, Gibbs, Motion, ghosting, gibbs, motion
from elsewhere.acquisition.mechanism import Between, Fixed, Mechanism, Parameters
from elsewhere.acquisition.noise import (
    GaussianNoise,
    PoissonNoise,
    RicianNoise,
    gaussian_noise,
    poisson_noise,
    rician_noise,
)
from elsewhere.acquisition.resolution import Resolution, resolution_loss
from elsewhere.acquisition.scanner import Draw, Scanner
from elsewhere.acquisition.smooth import random_blend_map, smooth_blend, spline_field

__all__ = [
    "GIN",
    "AmplitudeMix",
    "Anatomy",
    "Between",
    "BiasField",
    "ColourJitter",
    "Curve",
    "Draw",
    "Fixed",
    "Gamma",
    "GaussianBlur",
    "GaussianNoise",
    "Ghosting",
    "Gibbs",
    "GivenLabels",
    "Illumination",
    "Invert",
    "Lesion",
    "Linear",
    "Mechanism",
    "Motion",
    "Moved",
    "NestedOrgans",
    "Organ",
    "Parameters",
    "PoissonNoise",
    "Resolution",
    "RicianNoise",
    "Scanner",
    "Spatial",
    "Specular",
    "Stain",
    "Vignette",
    "affine",
    "amplitude_mix",
    "bias_field",
    "colour_jitter",
    "crop",
    "curve",
    "cut",
    "elastic",
    "flip",
    "foreground_index",
    "gamma",
    "gaussian_blur",
    "gaussian_noise",
    "ghosting",
    "gibbs",
    "grow_lesion",
    "invert",
    "linear",
    "motion",
    "patch_origin",
    "poisson_noise",
    "random_blend_map",
    "random_network",
    "render",
    "resolution_loss",
    "rician_noise",
    "smooth_blend",
    "smooth_noise",
    "smooth_shapes",
    "specular",
    "spline_field",
    "stain",
    "uneven_light",
    "vignette",
]
