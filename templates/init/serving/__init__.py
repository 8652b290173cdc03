"""HTTP server for the model, written by `mlship init`. It is yours: edit `model.py`, and the rest as needed."""
