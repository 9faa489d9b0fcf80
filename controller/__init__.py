"""The loop: where resources meet drivers."""
