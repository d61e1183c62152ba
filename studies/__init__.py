"""Study files and code lists to begin with; data, no code."""
