"""Studies made of anatomies and scanners, whose true shift between sites is known."""

from elsewhere.simulate.hospitals import four_hospitals
from elsewhere.simulate.site import Appearance, SimulatedSite
from elsewhere.simulate.study import simulate_study
from elsewhere.simulate.truth import read_truth

__all__ = ["Appearance", "SimulatedSite", "four_hospitals", "read_truth", "simulate_study"]
