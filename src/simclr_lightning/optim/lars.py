"""LARS as SimCLR trains with it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim.optimizer import Optimizer, ParamsT

from simclr_lightning.errors import InputError
from simclr_lightning.optim.shards import piece_of, placed_like, split_over, whole_norms


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling: every tensor moves by a fixed fraction of its own norm.

    For weights w with gradient g, each tensor on its own, the update of the SimCLR paper's code is::

        g = g + weight_decay * w
        trust = trust_coefficient * |w| / |g|     1 where |w| = 0, |g| = 0 or the group has adapt=False
        v = momentum * v + lr * trust * g
        w = w - v                                 nesterov: w - (momentum * v + lr * trust * g)

    The learning rate is *inside* the momentum buffer v, unlike in ``torch.optim.SGD``: the two differ whenever the rate
    changes. There is no epsilon, and the norm is that of the gradient with its weight decay.

    A parameter group may override every argument, and ``adapt`` (bool, default True) says whether its tensors are
    scaled by the trust ratio. It is independent of ``weight_decay``. :func:`~simclr_lightning.optim.parameter_groups`
    builds the two groups of the paper; without it, biases and normalisation are adapted like any other tensor.

    The step never waits for the device. Norms are those of whole tensors, also of tensors that FSDP2 split over
    processes (DTensor), which exchange all norms at once. Strategies that flatten parameters do not fit.

    Args:
        params: parameters, or groups of parameters as dictionaries. Real and dense; data types and devices may differ.
        lr: learning rate, at least 0. May be a tensor of one number, on the CPU or, for steps that are compiled or
            captured, on the device of the parameters: it is not read there, but multiplied.
        momentum: in [0, 1).
        weight_decay: L2 penalty added to the gradient, at least 0.
        trust_coefficient: how far a tensor moves at a rate of 1, as a fraction of its norm; above 0.
        nesterov: look-ahead momentum; needs momentum above 0.

    Raises:
        InputError: if an argument, or its value in a group, is out of range.
        TypeError: if a value has the wrong type, or a parameter is complex.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(4))
        >>> optimizer = LARS([weight], lr=1.0, momentum=0.0, trust_coefficient=0.1)
        >>> weight.sum().backward()
        >>> optimizer.step()  # by a tenth of the weight's norm, whatever the gradient's norm is
        >>> weight
        Parameter containing:
        tensor([0.9000, 0.9000, 0.9000, 0.9000], requires_grad=True)

    Source: You, Gitman, Ginsburg (2017), arXiv:1708.03888; Chen et al. (2020), arXiv:2002.05709, section 2.2 and the
    optimizer of the official code.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        nesterov: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "nesterov": nesterov,
            "adapt": True,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters; what it leaves out is taken from the constructor.

        Args:
            param_group: ``{"params": ..., "lr": ..., "adapt": ...}``.

        Raises:
            InputError: if a value is out of range.
            TypeError: if a value has the wrong type, or a parameter is complex.
        """
        _check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if parameter.is_complex():
                raise TypeError(
                    f"LARS takes real parameters, got one of shape {tuple(parameter.shape)} and {parameter.dtype}. "
                    "Store its torch.view_as_real(...) as the parameter."
                )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Makes one step with the gradients in ``.grad``; parameters without one are left as they are.

        Args:
            closure: computes the loss and its gradients anew, with gradients enabled.

        Returns:
            The loss that ``closure`` returned, None without it.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameters in _updated_together(group["params"]):
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        weights = [piece_of(parameter) for parameter in parameters]
        gradients = [piece_of(placed_like(_dense_gradient(parameter), parameter)) for parameter in parameters]
        if group["weight_decay"] != 0:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        trusts = None
        if group["adapt"]:
            trusts = _trust_ratios(weights, gradients, group["trust_coefficient"], split_over(parameters[0]))
        rate, momentum = _rate_for(weights[0], group["lr"]), group["momentum"]
        if momentum == 0:
            _add_scaled(weights, gradients, -rate, trusts)
            return
        buffers = [piece_of(self._momentum_buffer(parameter)) for parameter in parameters]
        torch._foreach_mul_(buffers, momentum)
        _add_scaled(buffers, gradients, rate, trusts)
        if group["nesterov"]:
            torch._foreach_add_(weights, buffers, alpha=-momentum)
            _add_scaled(weights, gradients, -rate, trusts)
        else:
            torch._foreach_sub_(weights, buffers)

    def _momentum_buffer(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def _check_group(group: dict[str, Any]) -> None:
    rate = group["lr"]
    if isinstance(rate, Tensor):
        if rate.numel() != 1 or not rate.is_floating_point():
            raise TypeError(f"LARS: lr must be a number, got a tensor of shape {tuple(rate.shape)} and {rate.dtype}.")
        group = {**group, "lr": rate.item()}  # waits once, before the first step
    for name in ("lr", "momentum", "weight_decay", "trust_coefficient"):
        if isinstance(group[name], bool) or not isinstance(group[name], int | float):
            raise TypeError(f"LARS: {name} must be a number, got {group[name]!r}.")
    for name in ("nesterov", "adapt"):
        if not isinstance(group[name], bool):
            raise TypeError(f"LARS: {name} must be True or False, got {group[name]!r}.")
    for name in ("lr", "weight_decay"):
        if not (group[name] >= 0 and math.isfinite(group[name])):
            raise InputError(f"LARS: {name} must be finite and at least 0, got {group[name]}.")
    if not 0 <= group["momentum"] < 1:
        raise InputError(f"LARS: momentum must be in [0, 1), got {group['momentum']}.")
    if not (group["trust_coefficient"] > 0 and math.isfinite(group["trust_coefficient"])):
        raise InputError(
            f"LARS: trust_coefficient must be finite and above 0, got {group['trust_coefficient']}. "
            "To switch adaptation off, give the parameter group adapt=False."
        )
    if group["nesterov"] and group["momentum"] == 0:
        raise InputError("LARS: nesterov=True needs a momentum above 0.")


def _updated_together(parameters: list[Tensor]) -> Iterable[list[Tensor]]:
    """Lists of the parameters with a gradient, as torch._foreach wants them: of one data type on one device each.

    What is split over processes is split alike in a list.
    """
    alike: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is None:
            continue
        groups = split_over(parameter)
        if parameter.device.type == "cpu" and not groups:  # by itself: it stays in the cache between two operations
            yield [parameter]
        else:
            alike[parameter.device, parameter.dtype, groups].append(parameter)
    yield from alike.values()


def _rate_for(weight: Tensor, rate: float | Tensor) -> float | Tensor:
    """The rate as a number where it is known without waiting, else as a 0-d tensor beside the weight."""
    if not isinstance(rate, Tensor):
        return rate
    if rate.device.type == "cpu" and not torch.compiler.is_compiling():
        return rate.item()
    return rate.reshape(()).to(weight.device)


def _dense_gradient(weight: Tensor) -> Tensor:
    gradient = weight.grad
    assert gradient is not None  # step() collects only weights with a gradient
    if gradient.layout != torch.strided:
        raise RuntimeError(
            f"LARS takes dense gradients, got {gradient.layout} for a parameter of shape {tuple(weight.shape)}. "
            "Create its nn.Embedding with sparse=False, or train it with torch.optim.SGD."
        )
    return gradient


def _trust_ratios(
    weights: list[Tensor], gradients: list[Tensor], coefficient: float, groups: tuple[ProcessGroup, ...]
) -> Tensor:
    """(n,), one for each weight. Norms are accumulated in float32 at least: a float16 norm overflows at 65504."""
    dtype = torch.promote_types(weights[0].dtype, torch.float32)
    weight_norms, gradient_norms = whole_norms([*weights, *gradients], dtype, groups).view(2, -1).unbind()
    # torch.where instead of an if: the host need not know the norms
    usable = torch.minimum(weight_norms, gradient_norms) > 0
    return torch.where(usable, coefficient * weight_norms / gradient_norms, 1.0)


def _add_scaled(targets: list[Tensor], updates: list[Tensor], scale: float | Tensor, trusts: Tensor | None) -> None:
    """Adds scale * trust * update to every target in place."""
    if trusts is not None:
        # On a GPU one kernel for each tensor, since the factors have other shapes. Factors as large as the tensors
        # would need few kernels, but two passes more over memory, which is what bounds the step.
        number, factors = (1.0, scale * trusts) if isinstance(scale, Tensor) else (scale, trusts)
        torch._foreach_addcmul_(targets, updates, list(factors.unbind()), value=number)
    elif isinstance(scale, Tensor):
        torch._foreach_add_(targets, torch._foreach_mul(updates, scale))  # alpha would be read by the host
    else:
        torch._foreach_add_(targets, updates, alpha=scale)
