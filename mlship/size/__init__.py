"""Image size: read a saved image in one pass, assign each byte to an owner, and find waste."""
