"""Two small heads that put features of images and of texts into one space, and the file that they lie in."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize


class JointHead(nn.Module):
    """
    Features of one kind → unit vectors of the joint space: linear, GELU, linear.

    Args:
        width (`int`): Of the features.
        hidden (`int`): Width between the two layers.
        joint (`int`): Width of the joint space.
    """

    def __init__(self, width: int, hidden: int, joint: int):
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, joint)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) → (N, joint), L2-normalised."""
        return normalize(self.outer(gelu(self.inner(features))), dim=-1)


class JointHeads(NamedTuple):
    """The heads of both kinds, float32, in evaluation mode; `revision` is the digest of their weights."""

    image: JointHead
    text: JointHead
    revision: str


def save_joint_heads(file: Path, image: JointHead, text: JointHead) -> None:
    """Writes both heads in half precision."""
    tensors = {
        f"{kind}.{name}": value.detach().to(torch.float16).contiguous()
        for kind, head in (("image", image), ("text", text))
        for name, value in head.state_dict().items()
    }
    save_file(tensors, file, metadata={"format": "pt"})


def load_joint_heads(file: Path) -> JointHeads:
    """
    Reads what [`save_joint_heads`] wrote.

    Raises:
        OSError, SafetensorError, KeyError: The file is missing, damaged or of another kind.
    """
    tensors = load_file(file)
    heads = []
    for kind in ("image", "text"):
        hidden, width = tensors[f"{kind}.inner.weight"].shape
        head = JointHead(width, hidden, tensors[f"{kind}.outer.weight"].shape[0])
        own = {name.removeprefix(f"{kind}."): value for name, value in tensors.items() if name.startswith(f"{kind}.")}
        head.load_state_dict({name: value.float() for name, value in own.items()})
        heads.append(head.eval().requires_grad_(False))
    return JointHeads(*heads, revision=hashlib.sha256(file.read_bytes()).hexdigest()[:12])
