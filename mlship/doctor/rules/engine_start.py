"""Rules about an engine that does not start, or cannot start GPU containers, recognized by its own messages."""
