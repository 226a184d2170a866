"""What does a step of LARS cost on the parameters of ResNet-50 and its projection head?"""

from __future__ import annotations

import torch
from optimizer import CONTESTANTS
from runner import OURS

from gpu.check import Check
from gpu.timing import timed
from simclr_lightning import SimCLR
from simclr_lightning.optim import parameter_groups

NAMES = (OURS, "timm, foreach", "timm, loop", "lightly", "SGD", "SGD, fused")


def run(check: Check) -> None:
    torch.manual_seed(0)
    model = SimCLR(check.sized("resnet50", "resnet8")).to(check.device)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    for name in NAMES:
        with check.guarded(name):
            optimizer = CONTESTANTS[name](parameter_groups(model, weight_decay=1e-6))
            timing = timed(optimizer.step, check.device, repeats=check.sized(20, 2))
            most = 1.0 if name == OURS else None
            check.figure(name, timing.ms, "ms", at_most=most, **timing.details())
