"""Meshes of clothes, glasses, hats and jewellery."""
