"""What the numbers support."""

from elsewhere.evidence.intervals import Interval, patient_interval, set_interval

__all__ = ["Interval", "patient_interval", "set_interval"]
