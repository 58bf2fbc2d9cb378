"""What people wear: clothes, glasses, hats, jewellery."""
