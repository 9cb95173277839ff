"""Tasks: how an example is put to a model and what counts as right."""
