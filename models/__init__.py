"""TensorFlow side of LVM-AI: catalogue, loading, prediction; no Beam."""
