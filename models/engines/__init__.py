"""What computes a model; imported by module, because the engines import SciPy and each other.

`predictor`: the one way to a prediction, used by jobs. `choosing`: which engine, and one that is
made and checked. `tensorflow_engine` and `spectral`: the two engines. `network` and
`spectral_plan`: what the spectral engine computes, read from a Keras model and planned.
"""
