"""Tests that compare two orders of the same sums run in float64, in which processors and kernels agree to about 1e-15.

In float32 they differ by 1e-7 and by what training makes of that, so that a bound would be one processor's own. As a script:
`trainer/train.py` in float64.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

# Of each value and, next to zero, of what is of the order of 1.
EXACT = {"rtol": 1e-9, "atol": 1e-9}
# What has to be in float32 (a metric's embeddings, 4-bit layers) is bounded by a multiple of this.
EPSILON = torch.finfo(torch.float32).eps


# Of positions and frequencies the angles of rotary embeddings are made, always in float32 otherwise.
WIDE = (torch.float64, torch.int64)


def _widened(function: Callable) -> Callable:
    """`function` with float64 where it is asked to make float32 of one of the wide dtypes."""

    @functools.wraps(function)
    def call(tensor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if isinstance(tensor, torch.Tensor) and tensor.dtype in WIDE:
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            kwargs = {name: torch.float64 if value is torch.float32 else value for name, value in kwargs.items()}
        return function(tensor, *args, **kwargs)

    return call


@contextmanager
def double_precision() -> Iterator[None]:
    """Models and tensors that are made here are in float64 by default, and stay in it where code asks for float32.

    Losses, norms and softmax are computed in at least float32, by casts to it, which would round float64.
    """
    before, to_float = torch.get_default_dtype(), torch.Tensor.float

    def float_or_double(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.double() if tensor.dtype in WIDE else to_float(tensor)

    torch.set_default_dtype(torch.float64)
    try:
        with ExitStack() as patches:
            for owner, name in ((torch.Tensor, "to"), (torch.nn.functional, "softmax")):
                patches.enter_context(patch.object(owner, name, _widened(getattr(owner, name))))
            patches.enter_context(patch.object(torch.Tensor, "float", float_or_double))
            yield
    finally:
        torch.set_default_dtype(before)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from trainer.train import main

    with double_precision():
        main(sys.argv[1:])
