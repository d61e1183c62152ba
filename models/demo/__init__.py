"""The embedded demonstration models, which mean nothing for patients, and their measurement."""
