"""Attention whose heads share one projection, as vision transformers have it."""

import torch
from torch import nn


class Attention(nn.Module):
    """Self-attention from one projection to q, k and v, as timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        size = self.qkv.out_features // (3 * self.heads)
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = ((q * size**-0.5) @ k.transpose(-2, -1)).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(batch, tokens, self.heads * size)
        return self.project(mixed)
