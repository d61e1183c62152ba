"""ECGs as a cardiologist reads them, on paper: pages of one ECG, and thumbnails of many."""
