"""The peers: one small file each, ``python -m benchmarks.peers.NAME SPEC-JSON`` prints one line of JSON."""
