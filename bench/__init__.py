"""The benchmark suite: the sidecar beside its peers on one machine (`python -m bench --help`)."""
