"""Human evaluation (the paper's section 5.1): a batch of items for raters, and the analysis of their answers."""
