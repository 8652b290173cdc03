"""Which CUDA an image needs, which CUDA hosts offer, and whether the two fit.

request: a package named in requirements.in, before anything is locked (`choose.PackageRequest`)
choice:  the release and variant of each requested package to resolve for (`choose.Choice`)
needs:   what a lock needs of CUDA, read from its pins (`needs.Needs`)
offer:   the CUDA that a host's driver supports (`cuda.tables.lookup.CudaOffer`)
stack:   one package with its kernels and the CUDA libraries it runs with (`judge.Stack`)
verdict: whether a stack runs on a host, with reasons (`judge.Verdict`)
match:   a lock's needs against every host of a fleet (`match.Match`)

The modules, in order of import: judge, needs, choose, explain (errors with remedies), match, target
(what to lock for), changes and fits (locks of any tool), promise, cluster.
"""
