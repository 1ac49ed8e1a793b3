"""Running other programs, and code that a model wrote, with as few rights as the system allows."""
