"""What the public check is made of."""
