"""Layers and networks. Uses only Keras and keras.ops, so a saved model loads on any Keras backend."""
