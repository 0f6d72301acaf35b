"""Where models lie, and loading them."""
