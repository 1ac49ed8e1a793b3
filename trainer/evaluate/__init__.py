"""How good and how fast a model is: loss on given text, speed, two models side by side."""
