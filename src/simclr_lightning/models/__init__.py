"""What SimCLR trains: an encoder f from pictures to features, and a projection head g that the loss looks at.

``sharding``, which Lightning is needed for, is imported by its own name: ``simclr models`` does without.
"""

from simclr_lightning.models.dense import feature_map, feature_maps
from simclr_lightning.models.encoders import build_encoder
from simclr_lightning.models.heads import ProjectionHead
from simclr_lightning.models.memory_format import SubsampledConv2d, TrimmedConv2d, to_memory_format
from simclr_lightning.models.resnet import RESNETS, ResNet, Stem, resolve_stem

__all__ = [
    "RESNETS",
    "ProjectionHead",
    "ResNet",
    "Stem",
    "SubsampledConv2d",
    "TrimmedConv2d",
    "build_encoder",
    "feature_map",
    "feature_maps",
    "resolve_stem",
    "to_memory_format",
]
