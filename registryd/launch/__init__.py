"""Starting a command in an image: rules that make a plan, and the ways to carry it out."""
