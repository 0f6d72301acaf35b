"""What the Spaces run on, of the demo and of the metrics alike."""

# The version that their apps are tested with.
GRADIO_VERSION = "6.31.0"
PYTHON_VERSION = "3.11"
