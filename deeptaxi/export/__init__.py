"""Exports: a trained network in the form that others use, each read back elsewhere and compared before it is kept.

`storage.formats` says what there is, `writers` writes it, `readers` reads it in a process of its own that has no
deeptaxi, `verify` compares the answers with the network's, and `exports` puts it together.
"""
