"""How a site makes an image of an anatomy: mechanisms with explicit parameters, and scanners that chain them."""

from elsewhere.acquisition.blur import GaussianBlur, gaussian_blur
from elsewhere.acquisition.colour import ColourJitter, Stain, colour_jitter, stain
from elsewhere.acquisition.contrast import Curve, Gamma, Invert, Linear, curve, gamma, invert, linear
from elsewhere.acquisition.fourier import AmplitudeMix, amplitude_mix
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
    "Illumination",
    "Invert",
    "Linear",
    "Mechanism",
    "Motion",
    "Parameters",
    "PoissonNoise",
    "Resolution",
    "RicianNoise",
    "Scanner",
    "Specular",
    "Stain",
    "Vignette",
    "amplitude_mix",
    "bias_field",
    "colour_jitter",
    "curve",
    "gamma",
    "gaussian_blur",
    "gaussian_noise",
    "ghosting",
    "gibbs",
    "invert",
    "linear",
    "motion",
    "poisson_noise",
    "random_blend_map",
    "random_network",
    "resolution_loss",
    "rician_noise",
    "smooth_blend",
    "specular",
    "spline_field",
    "stain",
    "uneven_light",
    "vignette",
]
