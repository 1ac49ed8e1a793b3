"""Operations with gradients of their own are the plain ones."""

import math

import pytest
import torch
import torch.nn.functional as F

from trainer.model import fused
from trainer.model.llama import RMSNorm, rotate


@pytest.mark.parametrize("trained", ["both", "input", "gain"])
def test_gradients_of_the_norm_are_those_of_finite_differences(trained: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, dtype=torch.float64, generator=generator)
    gain = torch.randn(8, dtype=torch.float64, generator=generator)
    x.requires_grad_(trained != "gain")
    gain.requires_grad_(trained != "input")
    assert torch.autograd.gradcheck(lambda x, w: fused.RMSNorm.apply(x, w, 1e-5), (x, gain))


@pytest.mark.parametrize("apart", [False, True])
def test_gradients_of_a_rotation_are_those_of_finite_differences(apart: bool) -> None:
    """Also where the sequences of a batch have positions of their own."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 3, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    angles = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator).repeat(1, 1, 2)
    angles = angles if apart else angles[0]
    assert torch.autograd.gradcheck(lambda x: rotate(x, (angles.cos(), angles.sin())), (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_computes_what_inference_does(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 3, 8, dtype=dtype, generator=generator)
    norm = RMSNorm(8, 1e-5)
    norm.weight.data.uniform_(0.5, 1.5, generator=generator)
    angles = torch.randn(3, 4, generator=generator).repeat(1, 2)
    rotary = (angles.cos(), angles.sin())
    with torch.no_grad():
        expected = rotate(norm(x), rotary)
    result = rotate(norm(x.requires_grad_()), rotary)
    assert result.dtype == dtype
    assert torch.allclose(result, expected, rtol=1e-6 if dtype == torch.float32 else 1e-2)
    plain = F.rms_norm(x.float(), (8,), norm.weight, 1e-5).to(dtype)
    assert torch.allclose(norm(x), plain, rtol=1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_and_its_gradient_are_those_of_torch(dtype: torch.dtype, size: int) -> None:
    """Also far out, where it is x or 0, and for what is not finite."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, generator=generator).mul_(3).to(dtype)
    far = torch.tensor([0.0, -0.0, 30.0, -30.0, 1e4, -1e4]).to(dtype)
    x[: len(far)] = far[: len(x)]
    of_y = torch.randn(size, generator=generator).to(dtype)
    plain, own = (x.clone().requires_grad_() for _ in range(2))
    expected = F.gelu(plain * 1, approximate="tanh")
    found = fused.gelu(own * 1)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert torch.allclose(found, expected, rtol=tolerance, atol=tolerance)
    expected.backward(of_y)
    found.backward(of_y)
    assert torch.allclose(own.grad, plain.grad, rtol=2 * tolerance, atol=tolerance)
    with torch.no_grad():
        assert torch.equal(fused.gelu(x.clone()), found), "the same without gradients"
        assert fused.gelu(torch.tensor([math.nan, math.inf], dtype=dtype)).isnan().tolist()[0]


def test_gradients_of_gelu_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: fused.gelu(x * 1), (x,))
