"""Tests on the real parts: a Kubernetes API server, its etcd, kubectl and the vCenter simulator."""
