"""BiSeNet for faces: the network of two published sets of weights, which nobody may sell."""
