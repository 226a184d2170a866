"""``simclr doctor``: what this machine and this installation have, and what a run warns of."""

from simclr_lightning.doctor.diagnosis import diagnose

__all__ = ["diagnose"]
