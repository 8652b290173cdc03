"""Where an image's bytes are: the saved image read in one pass, whose bytes they are, and what is there for nothing."""
