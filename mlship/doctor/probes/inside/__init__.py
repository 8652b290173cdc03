"""Programs that look from the inside of a place: run here in processes of their own, and in containers by `python -c`.

Each stands alone: the standard library only, valid for Python 3.8, nothing of mlship.
"""
