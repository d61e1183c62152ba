"""Disclosure control: which counts must be hidden so that no small number can be worked out."""
