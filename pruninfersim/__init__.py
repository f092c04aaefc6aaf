"""pruninfersim."""
