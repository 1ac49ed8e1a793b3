"""Small programming tasks, made from templates and a seed."""
