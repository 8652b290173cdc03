"""mlship: turn a model repository into a container image that is known to work."""

__version__ = "0.1.0"
