"""The commands of `spectra-sum`, one per file."""
