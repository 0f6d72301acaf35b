"""What a model is trained and measured for: a summary of an article, or an answer to an instruction about several images."""
