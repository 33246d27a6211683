"""Export trained networks to other formats, verifying each export before it is put in place.

`storage.formats` lists the formats, `writers` writes them, `readers` reads them in a separate process without deeptaxi,
`verify` compares the answers with the network's, and `exports` combines these steps.
"""
