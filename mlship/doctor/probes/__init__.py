"""The only I/O of doctor. One module a source; each returns its part of the facts and never raises."""
