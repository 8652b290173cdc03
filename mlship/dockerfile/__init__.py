"""A parser of Dockerfiles and of the shell scripts in them: what their text decides, and nothing else. Pure."""
