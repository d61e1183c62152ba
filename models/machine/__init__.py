"""The machine that models run on.

`host`: cores, memory and limits of this process, without TensorFlow. `runtime`: TensorFlow, which
is imported when it is first needed, its threads and its GPUs.
"""
