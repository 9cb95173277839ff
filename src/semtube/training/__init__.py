"""A run's training, through the Hugging Face Trainer."""
