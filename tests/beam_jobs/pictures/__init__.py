"""Tests of the pictures of ECGs."""
