"""How good are frozen features? k-NN, linear, attentive and segmentation probes."""
