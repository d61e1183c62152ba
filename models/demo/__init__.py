"""Data only: the embedded stand-in models, whose weights mean nothing."""
