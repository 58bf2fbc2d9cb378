"""Train a StyleGAN2 generator on hundreds of photos."""
