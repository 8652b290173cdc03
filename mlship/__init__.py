"""mlship: from a model repository to a container image that is known to work."""

__version__ = "0.1.0"
