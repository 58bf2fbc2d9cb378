"""Image to vector: e4e into w_plus, recognition and CLIP networks into embeddings."""
