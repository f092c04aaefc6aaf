"""The research kernels of arXiv 2606.09080."""
