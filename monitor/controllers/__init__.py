"""What keys and clicks do: each controller answers for some actions of the registry."""
