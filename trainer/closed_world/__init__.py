"""The controlled experiment: backbones, variants, jobs, report."""
