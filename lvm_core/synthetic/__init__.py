"""Synthetic people, ECGs, outcomes and device files, with their truth."""
