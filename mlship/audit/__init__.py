"""Judge a Dockerfile or an image by the rules of a good image for machine learning; see data/audit.toml."""
