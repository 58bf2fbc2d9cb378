"""Where images come from: folders, lists, archives and rendered parts."""
