"""What is evaluated: models, baselines, records of predictions, and how their outputs come about."""
