"""The theory lab: learners of latents and of tokens on the Random Hierarchy Model."""
