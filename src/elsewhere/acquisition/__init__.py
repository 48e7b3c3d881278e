"""How a site makes an image of an anatomy: mechanisms with explicit parameters, and scanners that chain them."""

from elsewhere.acquisition.blur import GaussianBlur, gaussian_blur
from elsewhere.acquisition.contrast import Curve, Gamma, Invert, Linear
from elsewhere.acquisition.mechanism import Between, Fixed, Mechanism, Parameters
from elsewhere.acquisition.noise import GaussianNoise, PoissonNoise, RicianNoise
from elsewhere.acquisition.scanner import Draw, Scanner

__all__ = [
    "Between",
    "Curve",
    "Draw",
    "Fixed",
    "Gamma",
    "GaussianBlur",
    "GaussianNoise",
    "Invert",
    "Linear",
    "Mechanism",
    "Parameters",
    "PoissonNoise",
    "RicianNoise",
    "Scanner",
    "gaussian_blur",
]
