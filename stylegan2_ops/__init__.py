"""StyleGAN2 as mathematics: operations, layers, generator and discriminator."""
