"""What is learned: the losses, the DPP teacher, and the queue of negatives."""
