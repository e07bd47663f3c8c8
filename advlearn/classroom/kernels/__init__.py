"""Kernels that share the memory of one warm parent: opt-in, for a server with many learners.

`parent` is the process that has the course loaded, and forks; `child` is what a fork does before it
is a kernel; `confinement` gives it the user and the limits of the process that asked. `provisioner`
is what Jupyter loads, inside its server: it asks for a fork, and where there is none it starts an
ordinary kernel. `spec` tells Jupyter of these kernels.
"""
