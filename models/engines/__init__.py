"""Computing predictions: TensorFlow, the spectral engine, and the choice between them."""
