"""What people see of Marque in a browser: words, pictures and the parts of the page."""
