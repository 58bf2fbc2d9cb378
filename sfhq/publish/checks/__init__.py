"""The checks of `sfhq validate`, one small function each, and the table that lists them."""
