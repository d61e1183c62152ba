"""The embedded demonstration models, and what measures them. They mean nothing for patients."""
