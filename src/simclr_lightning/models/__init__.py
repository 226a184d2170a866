"""What SimCLR trains: an encoder f from pictures to features, and a projection head g that the loss looks at."""

from simclr_lightning.models.encoders import build_encoder
from simclr_lightning.models.heads import ProjectionHead
from simclr_lightning.models.resnet import RESNETS, ResNet, Stem, resolve_stem

__all__ = ["RESNETS", "ProjectionHead", "ResNet", "Stem", "build_encoder", "resolve_stem"]
