"""The function: layers and networks. Keras and keras.ops only, so a saved model loads on any Keras backend."""
