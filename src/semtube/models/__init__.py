"""Models: find their parts, attach objectives to them, load and adapt them."""
