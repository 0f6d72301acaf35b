"""Training from a checkout: the DPP teacher, the losses, the trainer and the demo; never part of the wheel."""
