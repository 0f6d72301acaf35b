"""Saved web pages: their article, its images, and what is left out."""
