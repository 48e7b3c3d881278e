"""Acquisition mechanisms re-derived one image at a time in NumPy and SciPy; images are (C, *spatial) float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, ndimage

Array = NDArray[Any]


def gamma(image: Array, exponent: float) -> Array:
    low, high = image.min(), image.max()
    return ((image - low) / (high - low)) ** exponent * (high - low) + low


def curve(image: Array, values: Array) -> Array:
    low, high = image.min(), image.max()
    knots = low + (high - low) * np.linspace(0, 1, len(values))
    return interpolate.PchipInterpolator(knots, low + (high - low) * values)(image)


def gaussian_blur(image: Array, sigma: Array) -> Array:
    return np.stack([ndimage.gaussian_filter(channel, sigma, mode="nearest", truncate=4.0) for channel in image])


def resolution_loss(line: Array, factor: float) -> Array:
    """One line: integrate the piecewise constant signal over coarse voxels, then np.interp between their centres."""
    size = len(line)
    area = np.concatenate([[0.0], np.cumsum(line)])
    edges = [min(k * factor, size) for k in range(int(np.ceil(size / factor)) + 1)]
    heights, centres = [], []
    for k, (start, end) in enumerate(itertools.pairwise(edges)):
        if end - start > 1e-9:
            heights.append(np.diff(np.interp([start, end], np.arange(size + 1), area))[0] / (end - start))
            centres.append((k + 0.5) * factor)
    return np.interp(np.arange(size) + 0.5, centres, heights)


def spline_field(control: Array, shape: tuple[int, ...], order: int) -> Array:
    """B-spline with knots one apart, by SciPy, axis after axis; control (*lattice)."""
    for axis, size in enumerate(shape):
        n = control.shape[axis]
        place = (np.arange(size) + 0.5) / size * (n - order)
        spline = interpolate.BSpline(np.arange(-order, n + 1), np.moveaxis(control, axis, 0), order)
        control = np.moveaxis(spline(place), 0, axis)
    return control


def ghosting(image: Array, strength: float, ghosts: int, axis: int) -> Array:
    """Weaken k-space line after line of a centred spectrum."""
    low = image.min()
    axes = tuple(range(1, image.ndim))
    spectrum = np.fft.fftshift(np.fft.fftn(image - low, axes=axes), axes=axes)
    lines = np.moveaxis(spectrum, axis + 1, 0)
    middle = len(lines) // 2
    for k in range(len(lines)):
        if k != middle and (k - middle) % ghosts == 0:
            lines[k] *= 1 - strength
    return np.abs(np.fft.ifftn(np.fft.ifftshift(spectrum, axes=axes), axes=axes)) + low


def motion(image: Array, shift: Array, axis: int) -> Array:
    """Put together k-space from the spectra of the shifted images, one for each shot; shift (shots, dims)."""
    low = image.min()
    axes = tuple(range(1, image.ndim))
    shots, size = len(shift), image.shape[axis + 1]
    numbers = np.round(np.fft.fftfreq(size) * size)
    shot_of = np.floor((numbers / size + 0.5) * shots).astype(int)
    spectrum = np.zeros(image.shape, dtype=complex)
    for shot in range(shots):
        moved = np.stack([ndimage.fourier_shift(np.fft.fftn(channel - low), shift[shot]) for channel in image])
        chosen = [slice(None)] * image.ndim
        chosen[axis + 1] = np.flatnonzero(shot_of == shot)
        spectrum[tuple(chosen)] = moved[tuple(chosen)]
    return np.abs(np.fft.ifftn(spectrum, axes=axes)) + low


def gibbs(image: Array, cutoff: Array) -> Array:
    """Weights fall from 1 to 0 between the last kept line and the next."""
    axes = tuple(range(1, image.ndim))
    spectrum = np.fft.fftn(image, axes=axes)
    for axis in axes:
        size = image.shape[axis]
        for k in range(size):
            number = min(k, size - k)
            chosen = [slice(None)] * image.ndim
            chosen[axis] = k
            spectrum[tuple(chosen)] *= np.clip(cutoff[axis - 1] * (size // 2) + 1 - number, 0, 1)
    return np.fft.ifftn(spectrum, axes=axes).real


def amplitude_mix(image: Array, other: Array, strength: float) -> Array:
    axes = tuple(range(1, image.ndim))
    one, two = np.fft.fftn(image, axes=axes), np.fft.fftn(other, axes=axes)
    amplitude = (1 - strength) * np.abs(one) + strength * np.abs(two)
    return np.fft.ifftn(amplitude * np.exp(1j * np.angle(one)), axes=axes).real


def stain(image: Array, gain: Array, offset: Array) -> Array:
    """Pixel by pixel: Beer and Lambert, unmix, change, mix."""
    low, high = image.min(), image.max()
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    out = np.empty_like(image)
    for place in np.ndindex(image.shape[1:]):
        density = -np.log(np.maximum((image[(slice(None), *place)] - low) / (high - low), 1e-6))
        amounts = np.linalg.solve(stains.T, density)
        out[(slice(None), *place)] = low + (high - low) * np.exp(-(gain * amounts + offset) @ stains)
    return out


def specular(image: Array, centre: Array, radius: Array, strength: Array) -> Array:
    """Isotropic spots: distances in units of half the first axis."""
    shape = image.shape[1:]
    places = np.meshgrid(*[(np.arange(s) + 0.5) * 2 / s - 1 for s in shape], indexing="ij")
    rest = np.ones(shape)
    for c, r, a in zip(centre, radius, strength, strict=True):
        square = sum(((p - c[i]) * shape[i] / shape[0]) ** 2 for i, p in enumerate(places))
        rest *= 1 - a * np.exp(-square / (2 * r**2))
    return image + (1 - rest) * (image.max() - image)


def random_network(image: Array, weights: list[Array], shifts: list[Array], alpha: float) -> Array:
    """GIN by `scipy.ndimage.correlate`, one pair of channels after the other."""
    seen = image
    for layer, (weight, shift) in enumerate(zip(weights, shifts, strict=True)):
        out = []
        for kernels, constant in zip(weight, shift, strict=True):
            total = sum(
                ndimage.correlate(channel, kernel, mode="constant")
                for channel, kernel in zip(seen, kernels, strict=True)
            )
            out.append(total + constant)
        seen = np.stack(out)
        if layer < len(weights) - 1:
            seen = np.where(seen > 0, seen, 0.01 * seen)
    mixed = alpha * seen + (1 - alpha) * image
    return mixed * np.linalg.norm(image) / np.linalg.norm(mixed)
