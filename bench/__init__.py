"""The benchmark suite: the sidecar and its peers on one machine (`python -m bench --help`)."""
