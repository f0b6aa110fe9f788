"""What the package costs and how good its maps are, measured.

`python -m benchmarks.NAME` runs the script of that name from the root of the
repository. `benchmarks/README.md` lists the scripts; it is written by
`benchmarks.index`.
"""
