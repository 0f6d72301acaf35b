"""Documents of all kinds, with their images."""
