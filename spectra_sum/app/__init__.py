"""The demo: a Gradio app around the `multimodal-summarization` pipeline. A Space ships this folder beside its app.py."""
