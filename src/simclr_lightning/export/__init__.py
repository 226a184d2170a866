"""Encoders for other programs: files that need nothing of this package, each with a model card."""

from simclr_lightning.export.export import export_encoder
from simclr_lightning.export.formats import FORMATS, Format

__all__ = ["FORMATS", "Format", "export_encoder"]
