//! Where Kubernetes is spoken: a cluster as the fleet of a run, and what can be known before and instead of one.
