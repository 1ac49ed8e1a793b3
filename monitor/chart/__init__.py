"""Charts as characters and colour names: numbers in, a picture out. It knows no screen."""
