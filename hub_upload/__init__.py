"""Publishing on the Hugging Face Hub: the model with its code and card, the dataset, the metrics, and a demo Space."""
