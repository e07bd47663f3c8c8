"""The playground: draw a digit and attack it in a page, with no kernel and no server.

The networks run in the page itself, in the modules of `js/`, which carry the names of the Python
that they mirror. Weighed and left out: onnxruntime-web, which is alive and quick but computes no
gradients, and needs several megabytes of WebAssembly; TensorFlow.js, which has gradients, but whose
code alone is over a megabyte and whose last release is of 2024. Five kinds of layers, each with its
way back, are shorter than the glue to either.
"""
