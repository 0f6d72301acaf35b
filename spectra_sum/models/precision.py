"""In which dtype a pretrained model computes on this machine."""

import torch


def computing_dtype(stored: torch.dtype | None) -> torch.dtype:
    """
    On a GPU the checkpoint's own dtype. On a CPU float32, unless the checkpoint is in bfloat16 and the CPU computes in it:
    elsewhere a prompt in half precision takes six times as long, and a token twice.

    Args:
        stored (`torch.dtype`, *optional*): The checkpoint's; bfloat16 where it tells none.
    """
    if torch.cuda.is_available():
        return stored or torch.bfloat16
    fast = stored == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
