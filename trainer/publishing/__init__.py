"""What goes to the Hub: models, datasets and Spaces, each in one commit."""
