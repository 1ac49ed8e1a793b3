"""Reinforcement learning from rewards: rollouts, advantages, and the loss on them."""
