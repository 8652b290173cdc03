"""Programs that run in the image's build, by the image's own Python: standard library alone, and no knowledge of us."""
