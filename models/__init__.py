"""Models of LV mass: the catalogue, the engines, training and saliency."""
