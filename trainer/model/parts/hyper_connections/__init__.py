"""Hyper-connections: residual streams, their module, folding them away, their own file."""
