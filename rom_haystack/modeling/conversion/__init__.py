"""Models of other kinds into ROM checkpoints, and back: DPR, sentence-transformers, extractive readers.

Code that comes with a model is never run, and pickles are read by torch's weights-only loader alone.
"""
