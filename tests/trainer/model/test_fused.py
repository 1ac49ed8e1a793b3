"""Operations with gradients of their own are the plain ones."""

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
