"""Commands that need an encoder: latents and photos by it, embeddings, its training."""
