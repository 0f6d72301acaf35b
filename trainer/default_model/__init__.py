"""How the default model's adapter comes into the package."""
