"""Where a cluster comes from: the clusters file, a kubeconfig context, the embedded control plane, a saved snapshot."""
