"""What happens to one unit of ECGs: decode, check, predict, write."""
