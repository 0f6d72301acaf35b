"""Tests that compare two orders of the same sums run in float64, in which processors and kernels agree to about 1e-15.

In float32 they differ by 1e-7 and by what training makes of that, so that a bound would be one processor's own. As a script:
`trainer/train.py` in float64.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# Of each value and, next to zero, of what is of the order of 1.
EXACT = {"rtol": 1e-9, "atol": 1e-9}


class _NothingIsRounded(TorchFunctionMode):
    """Losses, norms and softmax are computed in at least float32 by casts to it, which would round float64."""

    CASTS = (torch.Tensor.to, torch.softmax, torch.nn.functional.softmax)

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            if function is torch.Tensor.float:
                return args[0]
            if function in self.CASTS:
                args = tuple(torch.float64 if value is torch.float32 else value for value in args)
                kwargs = {name: torch.float64 if value is torch.float32 else value for name, value in kwargs.items()}
        return function(*args, **kwargs)


@contextmanager
def double_precision() -> Iterator[None]:
    """Models and tensors that are made here are in float64, and stay so where code asks for float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _NothingIsRounded():
            yield
    finally:
        torch.set_default_dtype(before)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from trainer.train import main

    with double_precision():
        main(sys.argv[1:])
