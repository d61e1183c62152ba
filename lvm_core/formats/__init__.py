"""Vendor formats: bytes in, `Ecg` out."""
