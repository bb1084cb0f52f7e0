"""Normalisation with GELU: in channels-last memory as in contiguous memory, to second derivatives."""

import copy

import pytest
import torch
from emuloss.emulators.networks.normalisation import NormGelu
from torch import Tensor, nn
from torch.nn import functional as F

SHAPES = [(3, 8, 5, 7), (1, 16, 1, 1), (2, 8, 6, 1), (4, 24, 2, 3)]
GROUPS = [1, 4, 8]
TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 4e-2}


def layer(groups: int, channels: int, dtype=torch.float64) -> NormGelu:
    norm = NormGelu(groups, channels)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1.5, 2, channels))
        norm.bias.copy_(torch.linspace(0.5, -0.5, channels))
    return norm.to(dtype)


def features(shape: tuple[int, ...], dtype=torch.float64, layout=torch.channels_last) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    x = 3 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.to(dtype).to(memory_format=layout).requires_grad_()


def results(norm: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    """Output, and gradients of the input, the weight and the bias."""
    y = norm(x)
    found = torch.autograd.grad((y * weights).sum(), (x, norm.weight, norm.bias))
    return (y.detach(), *found)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("groups", GROUPS)
def test_channels_last_equals_contiguous(shape, groups, dtype):
    if shape[1] // groups * shape[2] * shape[3] < 3:
        pytest.skip("two values are normalised to 1 and -1: their gradient is rounding")
    norm = layer(groups, shape[1])
    # What is rounded to bfloat16 is compared with the same arithmetic in double precision.
    x = features(shape, dtype)
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = results(norm, x.detach().double().contiguous().requires_grad_(), weights)
    found = results(copy.deepcopy(norm).to(dtype), x, weights.to(dtype))
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == dtype
        scale = theirs.abs().max().clamp(min=1.0)
        assert ((ours.double() - theirs).abs() <= TOLERANCES[dtype] * scale).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_contiguous_is_the_plain_form(shape):
    norm, x = layer(4, shape[1]), features(shape, layout=torch.contiguous_format)
    plain = F.gelu(F.group_norm(x, 4, norm.weight, norm.bias, norm.eps))
    assert torch.equal(norm(x), plain)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_memory_format_and_dtype_are_kept(layout, dtype):
    x = features((3, 8, 5, 7), dtype, layout)
    y = layer(4, 8, dtype)(x)
    assert y.is_contiguous(memory_format=layout)
    assert y.dtype == dtype
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_bfloat16_under_autocast(layout):
    norm = layer(4, 8, torch.float32)
    x = features((3, 8, 6, 5), torch.bfloat16, layout)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    plain = norm(x.detach().float().contiguous())
    torch.testing.assert_close(y.float(), plain, rtol=3e-2, atol=3e-2)
    y.float().sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert norm.weight.grad.dtype == torch.float32


def differentiable(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    x, norm = features(shape), layer(2, shape[1])
    assert not x.is_contiguous()
    return x, norm.weight.detach().requires_grad_(), norm.bias.detach().requires_grad_()


def applied(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    norm = layer(2, x.shape[1])
    return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, x)


def test_gradient_by_finite_differences():
    assert torch.autograd.gradcheck(applied, differentiable((2, 4, 3, 2)))


def test_second_derivative_by_finite_differences():
    assert torch.autograd.gradgradcheck(applied, differentiable((2, 4, 2, 3)))


@pytest.mark.parametrize("frozen", ["weight", "bias", "both", "input"])
def test_what_needs_no_gradient_gets_none(frozen):
    norm, x = layer(4, 8), features((2, 8, 3, 3))
    norm.weight.requires_grad_(frozen not in ("weight", "both"))
    norm.bias.requires_grad_(frozen not in ("bias", "both"))
    x = x.detach() if frozen == "input" else x
    wanted = [t for t in (x, norm.weight, norm.bias) if t.requires_grad]
    for create_graph in (False, True):
        found = torch.autograd.grad(norm(x).square().sum(), wanted, create_graph=create_graph)
        assert all(g.isfinite().all() and g.any() for g in found)


def test_backward_writes_into_its_own_tensors_alone():
    norm, x = layer(4, 8), features((2, 8, 3, 5))
    y = norm(x)
    gradient = torch.randn_like(y)
    before = x.detach().clone(), gradient.clone()
    wanted = x, norm.weight, norm.bias
    first = torch.autograd.grad(y, wanted, gradient, retain_graph=True)
    second = torch.autograd.grad(y, wanted, gradient)
    assert torch.equal(x, before[0])
    assert torch.equal(gradient, before[1])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_empty_batch():
    x = torch.zeros((0, 8, 4, 4)).to(memory_format=torch.channels_last).requires_grad_()
    y = layer(4, 8, torch.float32)(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape


def test_parameters_are_those_of_group_norm():
    norm, plain = NormGelu(4, 8), nn.GroupNorm(4, 8)
    norm.load_state_dict(plain.state_dict())
    assert norm.state_dict().keys() == plain.state_dict().keys()
