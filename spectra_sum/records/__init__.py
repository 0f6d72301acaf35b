"""Records of datasets: their images, decoded one by one, what is written about them, and records as documents."""
