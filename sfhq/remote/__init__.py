"""Part folders on object storage: pushed, pulled, each file by its digest."""
