"""Which files of a folder or an image run code when they are loaded. Nothing is loaded or run."""
