"""Model and dataset cards, and the facts they are made of."""
