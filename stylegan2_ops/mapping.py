"""From z to w: StyleGAN2's layers, or a mixture of known codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.layers import FullyConnected

PIXEL_NORM_EPS = 1e-8
W_AVG_DECAY = 0.995


def normalize_second_moment(z: Tensor) -> Tensor:
    """Scale each row of (N, D) to unit mean square, with epsilon 1e-8."""
    return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + PIXEL_NORM_EPS)


class MappingNetwork(nn.Module):
    """z (N, z_dim) to w (N, w_dim), with the running mean of w as `w_avg`."""

    w_avg: Tensor

    def __init__(self, z_dim: int, w_dim: int, num_layers: int) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.num_layers = num_layers
        for index in range(num_layers):
            width = z_dim if index == 0 else w_dim
            layer = FullyConnected(width, w_dim, activation="lrelu", lr_multiplier=0.01)
            setattr(self, f"fc{index}", layer)
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor, update_average: bool = False) -> Tensor:
        """w (N, w_dim), not truncated.

        Args:
            z: (N, z_dim), Gaussian.
            update_average: move `w_avg` towards the mean of this batch (decay 0.995).
        """
        x = normalize_second_moment(z.float())
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        if update_average:
            mean = x.detach().float().mean(dim=0)
            self.w_avg.copy_(mean.lerp(self.w_avg, W_AVG_DECAY))
        return x


class MixtureMapping(nn.Module):
    """z (N, z_dim) to w (N, w_dim) on great circles between the codes of a few of M faces.

    z is compared with M keys; the softmax of the products weighs M codes. Their weighted sum is
    brought to the weighted mean of their lengths, and the basis, a bias and the leaky ReLU lead to
    w. The longer the keys, the more one code outweighs the others. Faces whose keys point the same
    way are drawn together. With `lead` no code outweighs the next by more than that, so that no
    draw is one of the faces.
    So w comes from where the codes are dense; one Gaussian fitted to all codes also draws from the
    empty space between clusters.

    Buffers:
        keys: (M, z_dim).
        codes: (M, code_dim), their mean is 0.
        basis: (code_dim, w_dim).
        bias: (w_dim,), w of the mean code before the leaky ReLU.
        w_avg: (w_dim,), the mean of w.

    Source: the weights are those of attention with z as query; Ramsauer et al. 2021, "Hopfield
    Networks is All You Need".
    """

    keys: Tensor
    codes: Tensor
    basis: Tensor
    bias: Tensor
    w_avg: Tensor

    def __init__(
        self, z_dim: int, w_dim: int, modes: int, code_dim: int, lead: float = 0.0
    ) -> None:
        super().__init__()
        self.z_dim, self.lead = z_dim, lead
        self.register_buffer("keys", torch.zeros(modes, z_dim))
        self.register_buffer("codes", torch.zeros(modes, code_dim))
        self.register_buffer("basis", torch.zeros(code_dim, w_dim))
        self.register_buffer("bias", torch.zeros(w_dim))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor) -> Tensor:
        """w (N, w_dim), not truncated, of z (N, z_dim), Gaussian."""
        products = normalize_second_moment(z.float()) @ self.keys.t()
        weights = with_lead(products, self.lead).softmax(dim=1)
        return bias_act(mixed(weights, self.codes) @ self.basis, self.bias)


def with_lead(products: Tensor, lead: float) -> Tensor:
    """Products (N, M) of which the largest of a row is at most `lead` above the next.

    Their softmax gives it at most exp(lead) times the weight of the next. It is continuous.

    Args:
        products: (N, M).
        lead: above 0; 0 changes nothing.
    """
    if lead <= 0 or products.shape[1] < 2:
        return products
    return products.minimum(products.topk(2, dim=1).values[:, 1:] + lead)


def mixed(weights: Tensor, codes: Tensor) -> Tensor:
    """Weighted sums of codes, brought to the weighted mean of the codes' lengths.

    Args:
        weights: (N, M), of rows that sum to 1.
        codes: (M, D), their mean is 0.

    Returns:
        (N, D).
    """
    total = weights @ codes
    length = weights @ codes.norm(dim=1, keepdim=True)
    result: Tensor = total * (length / total.norm(dim=1, keepdim=True).clamp(min=1e-12))
    return result
