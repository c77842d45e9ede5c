"""The paper's shapes, one a file: what its figures claim, on small data. ``benchmarks.paper_shapes`` runs them."""
