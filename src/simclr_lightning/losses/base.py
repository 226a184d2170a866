"""``ContrastiveLoss``: what SimCLR asks of a loss, so that a config can name any and a checkpoint keep it."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from simclr_lightning.distributed import equal_shares
from simclr_lightning.errors import InputError
from simclr_lightning.losses.watch import ContrastiveMetrics, contrastive_metrics

LossConfig = dict[str, Any]
"""``class_path`` of a loss and its ``init_args``: primitives, as in a YAML file."""


class ContrastiveLoss(nn.Module, ABC):
    """Loss of the projections of some views of every picture.

    Subclass it, and it can be given to ``SimCLR(loss=...)``, named in YAML (``loss: {class_path: my_project.MyLoss}``)
    and on the command line (``--model.loss my_project.MyLoss --model.loss.beta 0.5``). Parameters are trained and
    buffers saved with the model. Arguments are primitives: the checkpoint keeps them, and the loss is built anew from
    them, with ``weights_only=True`` and without arguments.

    Example:
        >>> class Alignment(ContrastiveLoss):
        ...     def __init__(self, weight: float = 1.0) -> None:
        ...         super().__init__()
        ...         self.weight = weight
        ...
        ...     def forward(self, projections: torch.Tensor) -> torch.Tensor:
        ...         return self.weight * (projections[0] - projections[1]).square().mean()
        >>> Alignment(weight=2.0).config()["init_args"]
        {'weight': 2.0}

    Attributes:
        temperature: by which the entropy of the contrastive prediction is watched.
        normalize: whether accuracy and entropy are watched by cosines, or by dot products.
        gather: whether the loss is that of the pictures of all processes, equal on each of them. Where it is not, the
            logged loss is averaged.
        takes: fields of the ``ViewBatch`` that ``forward`` is given by name beside the projections, such as targets;
            those that are None are left out.
    """

    temperature: float = 0.1
    normalize: bool = True
    gather: bool = True
    takes: ClassVar[tuple[str, ...]] = ()
    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the arguments, whatever ``__init__`` makes of them."""
        self = super().__new__(cls)
        # Before nn.Module's own __init__. Partially: a copy is made without arguments, and gets them with its state.
        self.__dict__["_arguments"] = _by_name(cls, args, kwargs)
        return self

    @abstractmethod
    def forward(self, projections: Tensor) -> Tensor:
        """Loss () of projections (V, N, D): V views of each of N pictures of this process, float, not normalised."""

    def of_batch(self, projections: Tensor, batch: Any) -> Tensor:
        """Loss () of projections (V, N, D), with what it takes of the ``ViewBatch`` that they are of.

        Raises:
            InputError: if the batch has groups of pictures, of which the loss knows nothing.
        """
        if getattr(batch, "groups", None) is not None and "groups" not in self.takes:
            raise InputError(
                f"{type(self).__name__} knows no groups of pictures. Leave them out, or choose a loss that takes them, "
                "such as NTXentLoss",
                "model.loss",
            )
        taken = {name: getattr(batch, name, None) for name in self.takes}
        with equal_shares(getattr(batch, "equal_shares", False)):
            loss: Tensor = self(projections, **{name: value for name, value in taken.items() if value is not None})
        return loss

    def expected(self, pictures: int, views: int = 2) -> tuple[float, float] | None:
        """Loss to expect for so many pictures in the global batch, with so many views of each.

        Returns:
            The loss of views that tell nothing, and the lowest that can be hoped for; None where that is not known.
        """
        return None

    def metrics(self, projections: Tensor) -> ContrastiveMetrics:
        """How well first views (N, D) find their second ones; see :func:`contrastive_metrics`."""
        first, second = projections[:2]
        return contrastive_metrics(
            first, second, temperature=self.temperature, normalize=self.normalize, gather=self.gather
        )

    def watched(self, projections: Tensor) -> dict[str, Tensor]:
        """What is logged of projections (V, N, D), by name: :meth:`metrics`, and what a subclass adds."""
        return self.metrics(projections)._asdict()

    def config(self) -> LossConfig:
        """Class path and arguments, from which :func:`build_loss` makes an equal one.

        Raises:
            InputError: if an argument is no primitive, which a checkpoint could not keep.
        """
        for name, value in self._arguments.items():
            if not _is_primitive(value):
                raise InputError(
                    f"{name} of {type(self).__name__} is a {type(value).__name__}: checkpoints hold numbers, texts, "
                    "and lists and dictionaries of them. Let the loss make it from such arguments."
                )
        return {"class_path": _path(type(self)), "init_args": dict(self._arguments)}


class UnknownLoss(ContrastiveLoss):
    """Stands for the loss of a checkpoint whose class is not imported: tensors are kept, but nothing can be trained.

    Args:
        name: class path.
        arguments: of that class.
    """

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.name = name
        self.arguments = arguments
        self.register_load_state_dict_pre_hook(_take_every_tensor)  # type: ignore[no-untyped-call]

    def config(self) -> LossConfig:
        """Those of the loss that it stands for."""
        return {"class_path": self.name, "init_args": self.arguments}

    def forward(self, projections: Tensor) -> Tensor:
        """Say what is missing.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"The loss of this checkpoint is {self.name}, and nothing is imported because a file names it.\n"
            f"Import {self.name.rpartition('.')[0]} before the checkpoint is loaded, or name the loss",
            f"model.loss {self.name}",
        )


def build_loss(config: Mapping[str, Any]) -> ContrastiveLoss:
    """The loss that a checkpoint describes.

    It is found in the modules that the program has imported: nothing is imported because a file names it.

    Example:
        >>> from simclr_lightning.losses import NTXentLoss
        >>> build_loss(NTXentLoss(temperature=0.5).config()).temperature
        0.5

    Args:
        config: ``class_path`` and ``init_args``.

    Returns:
        The loss; where its class is not imported, an :class:`UnknownLoss`, with which features can be computed.

    Raises:
        InputError: if the arguments are not those of the class.
    """
    path, arguments = str(config.get("class_path")), dict(config.get("init_args") or {})
    module, _, name = path.rpartition(".")
    known = getattr(sys.modules.get(module), name, None)
    if not (isinstance(known, type) and issubclass(known, ContrastiveLoss)):
        return UnknownLoss(path, arguments)
    try:
        return known(**arguments)
    except TypeError as error:
        raise InputError(f"The loss {path} does not take the arguments {arguments}: {error}.") from error


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _by_name(kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor by name, defaults included; those that do not fit are left for it to complain of."""
    signature = inspect.signature(kind.__init__)  # type: ignore[misc]  # of the class itself
    try:
        bound = signature.bind_partial(None, *args, **kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        match signature.parameters[name].kind:
            case inspect.Parameter.VAR_KEYWORD:
                found |= value
            case inspect.Parameter.VAR_POSITIONAL if not value:
                pass
            case _:
                found[name] = value
    return found


def _is_primitive(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_primitive(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_primitive(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _take_every_tensor(module: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    for key, tensor in state_dict.items():
        if key.startswith(prefix):
            *owners, name = key.removeprefix(prefix).split(".")
            owner = module
            for child in owners:
                if not hasattr(owner, child):
                    owner.add_module(child, nn.Module())
                owner = getattr(owner, child)
            if not hasattr(owner, name):
                owner.register_buffer(name, tensor.clone())
