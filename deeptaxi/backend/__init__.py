"""The Keras backend: start-up, compiled programs and their cache; the only package that knows TensorFlow from JAX."""
