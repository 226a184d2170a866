from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simclr_lightning.models import ProjectionHead


def batch_norm(x: Tensor, gain: Tensor, shift: Tensor | float) -> Tensor:
    columns = [(column - column.mean()) / (column.var(unbiased=False) + 1e-5).sqrt() for column in x.T]
    return torch.stack(columns, dim=1) * gain + shift


def norms(head: ProjectionHead) -> list[nn.BatchNorm1d]:
    return [module for module in head.modules() if isinstance(module, nn.BatchNorm1d)]


def randomised(head: ProjectionHead) -> ProjectionHead:
    """Weights, gains and shifts that would show up in the output if one were forgotten."""
    generator = torch.Generator().manual_seed(0)
    for parameter in head.parameters():
        nn.init.normal_(parameter, generator=generator)
    return head


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_projections_equal_the_formula(layers: int) -> None:
    head = randomised(ProjectionHead(6, 5, 4, layers).double())
    features = torch.randn(7, 6, dtype=torch.float64)
    state = head.state_dict()
    expected = features
    for layer in range(layers):
        final = layer == layers - 1
        shift = 0.0 if final else state[f"blocks.{layer}.1.bias"]
        expected = expected @ state[f"blocks.{layer}.0.weight"].T
        expected = batch_norm(expected, state[f"blocks.{layer}.1.weight"], shift)
        expected = expected if final else expected.clamp_min(0)
    torch.testing.assert_close(head(features), expected)


def test_no_layers_is_the_identity() -> None:
    head = ProjectionHead(6, layers=0)
    features = torch.randn(2, 6)
    assert head(features) is features
    assert (head.in_features, head.out_features) == (6, 6)
    assert list(head.parameters()) == []


@pytest.mark.parametrize(
    ("layers", "hidden", "expected"),
    [
        (1, None, [(128, 20)]),
        (2, None, [(20, 20), (128, 20)]),
        (3, None, [(20, 20), (20, 20), (128, 20)]),
        (3, 30, [(30, 20), (30, 30), (128, 30)]),
    ],
)
def test_hidden_width_is_the_encoders_unless_given(
    layers: int, hidden: int | None, expected: list[tuple[int, int]]
) -> None:
    head = ProjectionHead(20, hidden, layers=layers)
    assert [tuple(m.weight.shape) for m in head.modules() if isinstance(m, nn.Linear)] == expected
    assert (head.in_features, head.out_features) == (20, 128)
    assert head(torch.randn(4, 20)).shape == (4, 128)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_linears_have_no_bias_and_the_last_norm_no_shift(layers: int) -> None:
    head = ProjectionHead(6, 5, 4, layers)
    assert all(m.bias is None for m in head.modules() if isinstance(m, nn.Linear))
    *hidden, last = norms(head)
    assert len(hidden) == layers - 1
    assert all(isinstance(norm.bias, nn.Parameter) for norm in hidden)
    assert last.bias is None
    assert torch.equal(last.weight, torch.ones(4))


def test_dense_weights_start_normal_with_standard_deviation_a_hundredth() -> None:
    torch.manual_seed(0)
    head = ProjectionHead(300, 400)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            weight = module.weight.detach()
            assert weight.std().item() == pytest.approx(0.01, rel=0.02)
            assert weight.mean().item() == pytest.approx(0, abs=2e-4)
            assert weight.abs().max() > 0.035  # not truncated, not uniform


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gradient_reaches_every_parameter(layers: int) -> None:
    torch.manual_seed(0)
    head = ProjectionHead(6, 5, 4, layers)
    projections = head(torch.randn(8, 6))
    (projections * torch.randn_like(projections)).sum().backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_features_before_the_head_are_not_overwritten() -> None:
    features = torch.randn(8, 6)
    copy = features.clone()
    ProjectionHead(6)(features)
    assert torch.equal(features, copy)


def test_first_block_is_the_part_kept_for_fine_tuning() -> None:
    head = randomised(ProjectionHead(6, 5, 4, layers=3)).eval()
    features = torch.randn(8, 6)
    kept = head.blocks[:1](features)
    assert kept.shape == (8, 5)
    assert kept.min() == 0
    torch.testing.assert_close(head.blocks[1:](kept), head(features))


@pytest.mark.parametrize("training", [True, False])
def test_sync_batch_norm_keeps_weights_and_the_missing_shift(training: bool) -> None:
    head = randomised(ProjectionHead(6, 5, 4, layers=3))
    head(torch.randn(8, 6))  # moves the running statistics
    head.train(training)
    features = torch.randn(8, 6)
    parameters = list(head.parameters())
    state = {key: tensor.clone() for key, tensor in head.state_dict().items()}
    expected = head(features)
    head.load_state_dict(state)

    converted: Any = nn.SyncBatchNorm.convert_sync_batchnorm(head)  # type: ignore[no-untyped-call]

    assert all(ours is theirs for ours, theirs in zip(parameters, converted.parameters(), strict=True))
    assert [type(block[1]) for block in converted.blocks] == [nn.SyncBatchNorm] * 3
    assert converted.blocks[-1][1].bias is None
    assert converted.state_dict().keys() == state.keys()
    torch.testing.assert_close(converted(features), expected)
    ProjectionHead(6, 5, 4, layers=3).load_state_dict(converted.state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 4, "layers": -1}, r"layers is -1, expected 0 \(no head\)"),
        ({"in_features": 0}, "in_features is 0, expected at least 1"),
        ({"in_features": 4, "hidden_features": 0}, "hidden_features is 0, expected at least 1"),
        ({"in_features": 4, "out_features": -2}, "out_features is -2, expected at least 1"),
    ],
)
def test_impossible_widths_are_errors(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProjectionHead(**arguments)
