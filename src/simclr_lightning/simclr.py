"""SimCLR: encode, project, contrast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from simclr_lightning.agreement import check_agreement
from simclr_lightning.checkpoints import LoadsEncoder, import_path, start_from, upgraded
from simclr_lightning.compat import CLASS_PATH, INSTANTIATOR, read_bar_at_logged_steps, trainer_of
from simclr_lightning.distributed import world_size
from simclr_lightning.errors import InputError
from simclr_lightning.losses import ContrastiveLoss, NTXentLoss, build_loss
from simclr_lightning.losses.watch import check_finite
from simclr_lightning.models import Stem, build_encoder, to_memory_format
from simclr_lightning.models.compile_in_place import compile_in_place
from simclr_lightning.models.encoders import check_feature_dim, check_given, described_encoder
from simclr_lightning.models.freezing import check_freeze_epochs, freeze, with_unused, without_gradients
from simclr_lightning.models.heads import ProjectionHead, check_head
from simclr_lightning.models.micro_batches import check_micro_batch_size, encoded_by_size, micro_batches, recomputed
from simclr_lightning.models.sharding import configure_for_strategy
from simclr_lightning.optim import OptimizerName, build_optimizer, check_optimizer, parameter_groups
from simclr_lightning.precision import in_float32
from simclr_lightning.stages import marked
from simclr_lightning.views import ViewBatch, check_contrastable


class Contrasted(NamedTuple):
    """Loss (), detached features (V, N, F), and projections (V, N, D) with their gradient: of V views of N pictures."""

    loss: Tensor
    features: Tensor
    projections: Tensor


class SimCLR(LoadsEncoder):
    """A simple framework for contrastive learning of visual representations (Chen et al. 2020, arXiv 2002.05709).

    The views of every picture, two or more, go through the encoder, those of one size in one pass; the projection head
    maps their features to the space where the loss pulls the views of a picture together and pushes all others apart.
    Afterwards the head is dropped: ``model(images)`` gives the encoder's features.

    Give another ``loss``, or override :meth:`build_encoder`, :meth:`build_head` or :meth:`configure_optimizers`, to
    change one part; ``self.hparams`` then holds all arguments, also those of a subclass.

    Example:
        >>> model = SimCLR("resnet8", width=0.125, stem="cifar", loss=NTXentLoss(temperature=0.5))
        >>> model(torch.rand(4, 3, 16, 16)).shape
        torch.Size([4, 32])

    Args:
        encoder: resnet8, resnet10, resnet18, resnet34, resnet50, resnet101, resnet152, or any torchvision model
            (``torchvision/NAME``) or timm model (``timm/NAME``) that gives a pooled feature vector; or a module with
            an int ``feature_dim``, which is given again when a checkpoint is loaded.
        width: multiplies the channels of every stage of a ResNet; the paper uses 1, 2 and 4.
        stem: first layers of a ResNet. imagenet: 7x7 stride 2 and max-pool. cifar: 3x3 stride 1, no max-pool (B.9).
            pooled: 3x3 stride 1 and max-pool. auto: cifar where ``image_size`` is at most 32, else imagenet.
        image_size: side of the views in pixels, which decides ``stem: auto``; the command line takes it from the data.
        in_channels: channels of the pictures; the command line takes it from the data.
        zero_init_residual: whether the last BatchNorm gain of every residual block starts at zero.
        projection_layers: linear layers of the projection head: 0 (none), 1 (linear), 2 (SimCLR), 3 (SimCLRv2).
        projection_hidden: width of the head's hidden layers, the encoder's feature dimension by default.
        projection_dim: dimension in which the views are contrasted.
        loss: of the projections of all views; NT-Xent by default, see ``NTXentLoss`` for its temperature and the like.
            Another one by its class path: my_project.MyLoss, a subclass of ``ContrastiveLoss``.
        optimizer: lars (the paper's), sgd (Nesterov momentum) or adamw.
        learning_rate: base rate, of a global batch of 256, which ``LARSWarmup`` scales; 0.3 for LARS in the paper.
        weight_decay: decay of the weights; biases and normalisation layers are never decayed (nor adapted by LARS).
        momentum: of lars and sgd.
        trust_coefficient: of lars.
        channels_last: whether the encoder computes in the channels_last memory format, which is usually faster.
        micro_batch_size: pictures of this process that encoder and head take at once, all by default: the memory of a
            micro-batch, the gradients of the whole batch, a second forward pass. BatchNorm alone sees micro-batches.
        compile_encoder: whether ``Trainer.fit`` compiles the encoder, for minutes; on a CPU that needs a C++ compiler.
        init_from: what the encoder's weights start from: the path of a checkpoint or state dict, of any package; or
            torchvision or timm, whose weights of this ``encoder`` are downloaded. All fit, but that a first convolution
            of other channels is adapted. Checkpoints of the run have the weights, and ``init_from=None``.
        freeze_epochs: epochs, also a fraction, in which the encoder's weights and statistics stay and the head learns.
        pool_grid: fields a side over which a ResNet averages its last maps: 1 in the paper; 2: features of four fields.

    Raises:
        InputError: if an argument is out of range or a name unknown, or weights to start from do not fit.
    """

    def __init__(
        self,
        encoder: str | nn.Module = "resnet50",
        width: float = 1.0,
        stem: Stem = "auto",
        image_size: int | None = None,
        in_channels: int = 3,
        zero_init_residual: bool = True,
        projection_layers: int = 2,
        projection_hidden: int | None = None,
        projection_dim: int = 128,
        loss: ContrastiveLoss | None = None,
        optimizer: OptimizerName = "lars",
        learning_rate: float = 0.3,
        weight_decay: float = 1e-6,
        momentum: float = 0.9,
        trust_coefficient: float = 1e-3,
        channels_last: bool = True,
        micro_batch_size: int | None = None,
        compile_encoder: bool = False,
        init_from: str | None = None,
        freeze_epochs: float = 0,
        pool_grid: int = 1,
    ) -> None:
        super().__init__()
        check_freeze_epochs(freeze_epochs, projection_layers)
        check_micro_batch_size(micro_batch_size)
        check_optimizer(optimizer, learning_rate, momentum, weight_decay, trust_coefficient)
        check_head(projection_layers, projection_hidden, projection_dim)
        self.loss = build_loss(loss) if isinstance(loss, Mapping) else NTXentLoss() if loss is None else loss
        if not isinstance(self.loss, ContrastiveLoss):
            raise TypeError(f"loss is a {type(loss).__name__}: expected a subclass of ContrastiveLoss, or None.")
        given = check_given(encoder, width, stem, zero_init_residual, pool_grid)
        self.save_hyperparameters(ignore=["loss"] if given is None else ["loss", "encoder"])
        if given is not None and INSTANTIATOR not in self.hparams:
            self.save_hyperparameters({"encoder": described_encoder(given)})
        elif given is not None:  # the command line tells its class path and arguments
            self.save_hyperparameters(ignore=["loss"])
        self.save_hyperparameters({"loss": self.loss.config()})
        if not any(isinstance(value, dict) for name, value in self.hparams.items() if name != "loss"):
            for name in (INSTANTIATOR, CLASS_PATH):  # the command line's: nothing need be called to make it again
                self.hparams.pop(name, None)
        self.encoder = to_memory_format(self.build_encoder() if given is None else given, channels_last=channels_last)
        check_feature_dim(self.encoder)
        self.head = self.build_head()
        self.encoder_origin, self._frozen = init_from, False
        if init_from is not None:
            start_from(self.encoder, init_from, str(self.hparams["encoder"]), image_size)
            self.hparams["init_from"] = None  # whoever builds the model again has the weights

    @property
    def feature_dim(self) -> int:
        """Length F of the encoder's features."""
        return cast("int", self.encoder.feature_dim)

    def build_encoder(self) -> nn.Module:
        """Encoder f of the paper: pictures (N, C, H, W) to features (N, F), with an int attribute ``feature_dim``."""
        options = ("width", "stem", "in_channels", "image_size", "zero_init_residual", "pool_grid")
        return build_encoder(self.hparams["encoder"], **{name: self.hparams[name] for name in options})

    def build_head(self) -> nn.Module:
        """Projection head g of the paper: features (N, F) to projections (N, D)."""
        hidden, dimension, layers = (self.hparams[f"projection_{name}"] for name in ("hidden", "dim", "layers"))
        return ProjectionHead(self.feature_dim, hidden_features=hidden, out_features=dimension, layers=layers)

    def forward(self, images: Tensor) -> Tensor:
        """Features h = f(x), (N, F), of pictures (N, C, H, W), float, normally in [0, 1].

        Raises:
            InputError: if the pictures have another number of channels than the encoder.
        """
        expected = getattr(self.encoder, "in_channels", None)
        if expected is not None and images.shape[1] != expected:
            raise InputError(
                f"The pictures have {images.shape[1]} channels but the encoder was built for {expected}: set "
                f"in_channels={images.shape[1]} (--model.in_channels {images.shape[1]})."
            )
        if self.hparams["channels_last"]:
            images = images.contiguous(memory_format=torch.channels_last)
        return cast("Tensor", self.encoder(images))

    def project(self, features: Tensor) -> Tensor:
        """Projections z = g(h): (N, F) features to (N, D), in float32 under autocast."""
        return in_float32(self.head, features)

    def contrast(self, batch: ViewBatch, *, check: bool = True) -> Contrasted:
        """Views to loss, features and projections, without a log or a Trainer: for a module that SimCLR is a part of.

        Example:
            >>> model = SimCLR("resnet8", width=0.125)
            >>> contrasted = model.contrast(ViewBatch.of(torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16)))
            >>> contrasted.loss.backward()
            >>> contrasted.projections.shape
            torch.Size([2, 4, 128])

        Args:
            batch: views of the pictures of this process; with several processes all of them call it.
            check: whether to look for NaN, for which the host waits for the device.

        Raises:
            InputError: if there are too few views or pictures, or the projections are not finite.
        """
        check_contrastable(batch, world_size() if self.loss.gather else 1)
        features, projections = self._embed(batch.views)
        if check:
            check_finite(projections, together=self.training or self.loss.gather)
        with marked("loss", trainer_of(self)):
            loss = self.loss.of_batch(projections, batch)
        return Contrasted(loss, features, projections)

    def training_step(self, batch: ViewBatch, batch_idx: int) -> dict[str, Tensor]:
        """Contrast the views of every picture.

        Returns:
            loss (), and detached, in the order [all first views; all second views; ...]: features (V N, F) and
            projections (V N, D). Callbacks rely on nothing else.
        """
        logged = self._is_logged_step()
        self._frozen = freeze(self, self.encoder, batch_idx, was=self._frozen)  # also in backward's micro-batches
        outputs = self._shared_step(batch, "train", watch=logged, check=logged)
        return with_unused(outputs, self.encoder.parameters()) if self._frozen else outputs

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Leave a frozen encoder without gradients, also where DDP made zeros of none."""
        super().backward(loss, *args, **kwargs)
        if self._frozen:
            without_gradients(self.encoder.parameters())

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> dict[str, Tensor]:
        """Contrast the views, and encode the clean pictures for the callbacks that judge features.

        Returns:
            loss (), projections (V N, D) of the views, and features (N, F) of ``batch.images`` where it has any.
        """
        return self._evaluation_step(batch, batch_idx, "val")

    def test_step(self, batch: ViewBatch, batch_idx: int) -> dict[str, Tensor]:
        """As :meth:`validation_step`, on the test pictures."""
        return self._evaluation_step(batch, batch_idx, "test")

    def predict_step(self, batch: ViewBatch, batch_idx: int) -> dict[str, Tensor]:
        """Features (N, F) of the clean pictures, with the targets (N,) and indices (N,) of the pictures."""
        if batch.images is None:
            raise InputError("Prediction needs clean pictures: the batch has images=None.")
        return {"features": self._encode(batch.images), "targets": batch.targets, "indices": batch.indices}

    configure_model = configure_for_strategy

    def setup(self, stage: str) -> None:
        """Compile the encoder in place, which leaves its names in checkpoints alone, and lazily, at its first call."""
        if stage == "fit":
            read_bar_at_logged_steps(check_agreement(trainer_of(self)))
            if self.hparams["compile_encoder"]:
                compile_in_place(self.encoder)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Tell which class wrote it, and what the encoder started from."""
        checkpoint |= {"class_path": import_path(type(self)), "init_from": self.encoder_origin}
        checkpoint["hyper_parameters"]["init_from"] = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the loss of a file from before it was an object, unless a Trainer resumes what was typed."""
        self.encoder_origin = checkpoint.get("init_from")
        told = checkpoint.get("hyper_parameters", {})
        if "loss" not in told and "loss" in upgraded(told) and trainer_of(self) is None:
            self.loss = build_loss(upgraded(told)["loss"])
            self.hparams["loss"] = self.loss.config()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimizer with biases and normalisation layers in a group that is neither decayed nor adapted."""
        groups = parameter_groups(self, weight_decay=self.hparams["weight_decay"])
        options = ("learning_rate", "momentum", "trust_coefficient")
        return build_optimizer(self.hparams["optimizer"], groups, **{name: self.hparams[name] for name in options})

    def _evaluation_step(self, batch: ViewBatch, batch_idx: int, stage: str) -> dict[str, Tensor]:
        outputs = self._shared_step(batch, stage, watch=True, check=batch_idx == 0 or self.device.type == "cpu")
        del outputs["features"]  # those of the views: nothing is judged by them
        return outputs if batch.images is None else {**outputs, "features": self._encode(batch.images)}

    def _encode(self, images: Tensor) -> Tensor:
        """Features (N, F) of pictures (N, C, H, W), a micro-batch at a time."""
        return torch.cat([self(part) for part in micro_batches(images, self.hparams["micro_batch_size"])])

    def _embed(self, views: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Detached features (V, N, F) and projections (V, N, D) of views (V_k, N, C, S_k, S_k)."""
        size = self.hparams["micro_batch_size"]
        *others, last = zip(*(micro_batches(own, size, dim=1) for own in views), strict=True)
        outputs = [recomputed(self._embed_at_once, part, self) for part in others]
        outputs.append(self._embed_at_once(last))  # backward begins with it: its activations may stay
        features, projections = (torch.cat(parts, dim=1) for parts in zip(*outputs, strict=True))
        return features, projections

    def _embed_at_once(self, views: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            features = encoded_by_size(self, views)
        projections = torch.unflatten(self.project(features.flatten(0, 1)), 0, features.shape[:2])
        return features.detach(), projections

    def _shared_step(self, batch: ViewBatch, stage: str, *, watch: bool, check: bool) -> dict[str, Tensor]:
        loss, features, projections = self.contrast(batch, check=check)
        # A gathered loss is that of the global batch already; Lightning warns if epoch means are not synchronised.
        pictures = len(batch.targets)
        self.log(f"{stage}/loss", loss, True, batch_size=pictures, sync_dist=stage != "train" or not self.loss.gather)
        if watch:
            values = {f"{stage}/contrast_{name}": own for name, own in self.loss.watched(projections).items()}
            self.log_dict(values, batch_size=pictures, sync_dist=True)
        return {"loss": loss, "features": features.flatten(0, 1), "projections": projections.detach().flatten(0, 1)}

    def _is_logged_step(self) -> bool:
        if (trainer := trainer_of(self)) is None:
            return self.device.type == "cpu"  # where looking costs nothing
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by one of its connectors
        return every > 0 and (self.global_step + 1) % every == 0
