"""The memory queue of L_align: image targets of recent articles, the negatives of the current ones.

The paper trains with batch size 1, where a batch holds no negatives of its own.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


class NegativeQueue:
    """First in, first out: the image targets v̄ of the latest `size` articles, each under its key.

    Articles with the same key are no negatives of each other: the key is the article's id, or in the closed world a
    number for its visual facts.

    Args:
        size (`int`): how many targets are kept at most.
        dim (`int`): width of the embeddings.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`): where the targets are kept.
    """

    def __init__(self, size: int, dim: int, device: torch.device | str = "cpu"):
        if size < 1 or dim < 1:
            raise ValueError(f"a negative queue needs size >= 1 and dim >= 1, got size={size}, dim={dim}")
        self.size = size
        self.dim = dim
        self.embeds = torch.zeros(0, dim, device=device)
        self.keys = torch.zeros(0, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return len(self.keys)

    def push(self, embeds: Tensor, keys: Tensor) -> None:
        """Append targets, oldest first; beyond `size` the oldest entries leave.

        Args:
            embeds (`torch.Tensor` of shape `(n, dim)`): v̄ of articles that have images.
            keys (`torch.Tensor` of shape `(n,)`, int64): their keys.

        Raises:
            ValueError: wrong shapes, or a zero or non-finite target (an article without images has none).
        """
        if embeds.shape != (len(keys), self.dim) or keys.dim() != 1:
            raise ValueError(
                f"push needs embeds (n, {self.dim}) and keys (n,), got {tuple(embeds.shape)} and {tuple(keys.shape)}"
            )
        embeds = embeds.detach().to(self.embeds)
        norms = embeds.norm(dim=-1)
        if not (norms.isfinite() & (norms > 0)).all():
            raise ValueError("embeds holds a zero or non-finite target; push only articles that have images")
        self.embeds = torch.cat([self.embeds, embeds])[-self.size :]
        self.keys = torch.cat([self.keys, keys.to(self.keys)])[-self.size :]

    def negatives(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The negatives of a batch.

        Args:
            keys (`torch.Tensor` of shape `(B,)`, int64): the keys of its articles.

        Returns:
            `tuple`: the Q targets in the queue, `(Q, dim)`, oldest first, and a bool mask `(B, Q)`, true where the
            entry's key differs from the article's.
        """
        return self.embeds, keys.to(self.keys)[:, None] != self.keys[None, :]

    def state_dict(self) -> dict[str, Tensor]:
        """`embeds` (n, dim), `keys` (n,) and `size` (), all plain tensors."""
        return {"embeds": self.embeds, "keys": self.keys, "size": torch.tensor(self.size)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the entries of a saved queue of the same size and dim; they move to this queue's device.

        Raises:
            ValueError: missing or unknown entries, or another size or dim than this queue's.
        """
        expected = {"embeds", "keys", "size"}
        if state.keys() != expected:
            raise ValueError(f"a negative queue's state has the entries {sorted(expected)}, got {sorted(state)}")
        size, dim = int(state["size"]), state["embeds"].shape[-1]
        if (size, dim) != (self.size, self.dim):
            raise ValueError(
                f"the saved negative queue has size {size} and dim {dim}, this one size {self.size} and dim "
                f"{self.dim}; resume with the queue size and the image encoder of the saved run"
            )
        self.embeds = state["embeds"].to(self.embeds)
        self.keys = state["keys"].to(self.keys)

    def save(self, path: str | Path) -> None:
        """Write the queue to a safetensors file."""
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, path)

    def load(self, path: str | Path) -> None:
        """Read the queue from a file of [`save`].

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: its size, dim or entries are not this queue's; the message names the file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no negative queue at {path}; it is written beside every training checkpoint")
        try:
            self.load_state_dict(load_file(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
