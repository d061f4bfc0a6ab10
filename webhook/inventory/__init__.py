"""What is known of vSphere and of the cluster: how old it is, and how to ask afresh."""
