"""Export trained networks to other formats, verifying each export before it is put in place.

`storage.formats` lists the formats, `writers` writes them, `readers` reads them in a separate process without deeptaxi,
`read_back` compares the answers with the network's, and `exporter` combines these steps.
"""
